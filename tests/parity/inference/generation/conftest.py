"""The same tiny model twice: of `transformers`, and read from its folder here."""

import pytest

from models import hub
from tests.parity.inference.generation.small_models import WRITERS, gpt2, llama
from tests.parity.reference import torch


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def models(request, tmp_path_factory):
    """The same model twice; its logits differ enough from place to place that texts end at different lengths."""
    torch.manual_seed(3)
    theirs = request.param().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(12 if "wte" in name or "embed" in name or "lm_head" in name else 6)
    folder = tmp_path_factory.mktemp(request.param.__name__)
    theirs.save_pretrained(folder)
    return theirs, *hub.load(folder)


@pytest.fixture(scope="module", params=WRITERS)
def writer(request, tmp_path_factory):
    """The same model twice. Everything is perturbed, and the decoder more: its texts differ, and end at different lengths."""
    torch.manual_seed(9 if request.param == "marian" else 3)  # one whose texts are no near-ties
    theirs = WRITERS[request.param]().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embed_positions" not in name or request.param != "marian":  # those are sinusoids
                scale = 1.0 if "decoder" in name else 0.2
                parameter.add_(torch.randn(parameter.shape) * scale)
        if request.param == "t5":
            theirs.shared.weight.mul_(1.2)
    folder = tmp_path_factory.mktemp("writer")
    theirs.save_pretrained(folder)
    return theirs, *hub.load(folder)
