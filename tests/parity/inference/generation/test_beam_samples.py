"""Beams whose candidates are drawn: texts come as often as from `transformers`' `generate`."""

import jax
import numpy as np
import pytest
from scipy.stats import chi2_contingency

from inference.generation import GenerationConfig, generate
from models import hub
from tests.parity.inference.generation.small_models import gpt2
from tests.parity.reference import torch

DRAWS, PROMPT, NEW = 3_000, [3, 11, 7], 3


@pytest.mark.parametrize(
    "settings",
    [dict(top_k=8, temperature=4.0), dict(top_k=0, top_p=0.6, temperature=2.0, num_beams=3, length_penalty=0.3)],
    ids=str,
)
def test_texts_are_as_frequent(settings, tmp_path):
    torch.manual_seed(0)
    theirs = gpt2().eval()
    with torch.no_grad():
        theirs.transformer.wte.weight.mul_(4)
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    settings = dict(num_beams=2, do_sample=True, max_new_tokens=NEW, eos_token_id=[5], pad_token_id=39) | settings
    prompts = np.array([PROMPT] * DRAWS)
    answer = theirs.generate(torch.tensor(prompts), attention_mask=torch.ones(DRAWS, 3), **settings).numpy()[:, 3:]
    ours = generate(model, variables, prompts, settings=GenerationConfig.from_json(settings), key=jax.random.key(0))
    counts = {}
    for side, texts in enumerate((answer, np.asarray(ours.sequences)[:, 3:])):
        for text in texts.tolist():
            text = (*text, *[39] * (NEW - len(text)))
            counts.setdefault(tuple(text), [0, 0])[side] += 1
    often = [pair for pair in counts.values() if sum(pair) >= 20]
    rare = np.sum([pair for pair in counts.values() if sum(pair) < 20], axis=0)
    table = np.array([*often, rare] if rare.sum() else often)
    assert len(often) > 8
    assert chi2_contingency(table).pvalue > 1e-3
