"""One contestant of `generation`: builds a model, writes its texts once to warm up, then again for each line on stdin.

    python generation_worker.py ours|torch CASE

Runs under the interpreter of the library that it measures, as `steps_worker`. The first answer also has `first`, the seconds of
the first call, what is compiled included, and of ours `programs`, how many that were, and `bytes` of the weights; of torch
`bandwidth`, the bytes that a sum over 1 GiB reads a second.
"""

import dataclasses
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """Texts to write, for both sides the same. None ends early.

    Attributes:
        architecture: class of both libraries.
        config: fields of the published `config.json` of both, where they differ from the smallest published model's.
        read: tokens of each prompt, or of the text that an encoder reads.
    """

    architecture: str
    model_type: str
    config: dict[str, Any]
    batch: int
    beams: int = 1
    read: int = 16
    new: int = 128

    @property
    def generation(self) -> dict[str, Any]:
        return dict(max_new_tokens=self.new, num_beams=self.beams, do_sample=False)


GPT2, BART = ("GPT2LMHeadModel", "gpt2"), ("BartForConditionalGeneration", "bart")
SMALLER = dict(n_embd=512, n_layer=4, n_head=8)
BART_BASE = dict(
    d_model=768, encoder_layers=6, decoder_layers=6, encoder_ffn_dim=3072, decoder_ffn_dim=3072,
    encoder_attention_heads=12, decoder_attention_heads=12, forced_eos_token_id=None,
)  # fmt: skip
TINY = dict(vocab_size=99, n_embd=32, n_layer=2, n_head=2)
CASES = {
    "GPT-2 small, greedy, batch 1": Case(*GPT2, {}, 1),
    "GPT-2 small, greedy, batch 8": Case(*GPT2, {}, 8),
    "30 million parameters, greedy, batch 1": Case(*GPT2, SMALLER, 1),
    "BART base, 4 beams, batch 1": Case(*BART, BART_BASE, 1, beams=4, read=128, new=64),
    "tiny": Case(*GPT2, TINY, 2, new=8),
    "tiny beams": Case(*GPT2, TINY, 2, beams=2, new=8),
}

Write = Callable[[], None]


def ours(case: Case) -> tuple[Write, Callable[[], dict[str, Any]]]:
    import flax.linen as nn
    import jax
    import numpy as np

    from inference.generation import GenerationConfig, generate, programs
    from models import hub

    config = hub.config_class(case.model_type).from_json({"model_type": case.model_type, **case.config})
    model = hub.model_class(case.model_type, case.architecture)(config)
    variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    settings = GenerationConfig(**case.generation, eos_token_id=())
    ids = prompts(case, config.vocab_size)
    size = sum(x.nbytes for x in jax.tree.leaves(variables))

    def write() -> None:
        written = generate(model, variables, ids, settings=settings)
        assert np.asarray(written.lengths).min() == case.new

    return write, lambda: {"programs": programs(), "bytes": size}


def torch_generate(case: Case) -> tuple[Write, Callable[[], dict[str, Any]]]:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(case.model_type, **case.config)
    model = getattr(transformers, case.architecture)(config).eval()
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=0, decoder_start_token_id=getattr(config, "decoder_start_token_id", None)
    )
    ids = torch.tensor(prompts(case, config.vocab_size))

    def write() -> None:
        found = model.generate(ids, attention_mask=torch.ones_like(ids), **case.generation)
        assert found.shape[1] == case.new + (1 if config.is_encoder_decoder else case.read)

    def bandwidth() -> dict[str, Any]:
        many, times = torch.ones(2**28), []
        for _ in range(6):
            begin = time.perf_counter()
            many.sum()
            times.append(time.perf_counter() - begin)
        return {"bandwidth": many.nbytes / min(times)}

    return write, bandwidth


def prompts(case: Case, vocab: int):
    import numpy as np

    return np.random.default_rng(0).integers(5, vocab, (case.batch, case.read))


def main() -> None:
    side, name = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr
    build, packages = {"ours": (ours, ("jax", "flax")), "torch": (torch_generate, ("transformers", "torch"))}[side]
    write, facts = build(CASES[name])
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        write()
        times.append(time.perf_counter() - begin)
    versions = {package: importlib.metadata.version(package) for package in packages}
    said = {"warm": sum(times), "first": times[0], "versions": versions, **facts()}
    print(json.dumps(said), file=answers, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            write()
        print((time.perf_counter() - begin) / int(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
