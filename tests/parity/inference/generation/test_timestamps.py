"""The rule of timestamps against the processor of `transformers`, on texts that have got anywhere."""

import jax.numpy as jnp
import numpy as np
import pytest

from inference.generation.config import GenerationConfig
from inference.generation.rules import Written, rules
from tests.parity.reference import torch, transformers

VOCABULARY, END, UNSTAMPED, PROMPT = 40, 20, 24, 3
BEGIN = UNSTAMPED + 1
BEGUN = [
    [],
    [25],
    [25, 3],
    [26, 3, 4],
    [26, 3, 28],
    [26, 3, 28, 28],
    [26, 3, 28, 30],
    [26, 3, 28, 28, 5],
    [25, 3, 39],
    [25, 3, 39, 39],
    [26, 3, 28, 28, 5, 6, 31, 31, 7],
    [3, 4],
]


@pytest.mark.parametrize("latest", [None, 5])
@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_the_processor(spread, latest):
    rng = np.random.default_rng(0)
    settings = GenerationConfig(
        return_timestamps=True,
        no_timestamps_token_id=UNSTAMPED,
        max_initial_timestamp_index=latest,
        suppress_tokens=(7,),
    )
    config = transformers.GenerationConfig(eos_token_id=END)
    config.no_timestamps_token_id, config.max_initial_timestamp_index = UNSTAMPED, latest
    theirs = transformers.generation.logits_process.WhisperTimeStampLogitsProcessor(config, begin_index=PROMPT)
    narrowed = set()
    for begun in BEGUN:
        scores = spread * rng.normal(size=(8, VOCABULARY)).astype(np.float32)
        scores[:, 7] = -np.inf
        prompt = rng.integers(0, VOCABULARY, (8, PROMPT))
        tokens = np.concatenate([prompt, np.tile(np.array(begun, int), (8, 1)).reshape(8, -1)], axis=1)
        expected = theirs(torch.tensor(tokens), torch.tensor(scores)).numpy()
        room = np.pad(tokens, ((0, 0), (0, 12 - len(begun))))
        length = jnp.full(8, PROMPT)
        written = Written(jnp.asarray(room), length, length + 12, jnp.asarray(prompt), prompt=PROMPT)
        found = jnp.asarray(scores)
        for rule in rules(settings, (END,)):
            found = rule(found, written, jnp.asarray(len(begun)))
        np.testing.assert_array_equal(np.asarray(found), expected)
        narrowed |= {(bool(np.isinf(row[:END]).all()), bool(np.isinf(row[BEGIN:]).all())) for row in expected}
    assert len(narrowed) >= 3  # times alone, text alone, and either
