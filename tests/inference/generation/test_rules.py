"""Rules of generation count what a text has, and never the padding beside it."""

import jax.numpy as jnp
import numpy as np
import pytest

from inference.generation.config import GenerationConfig
from inference.generation.rules import Written, apply_rules, rules

PADDED = [0, 0, 0, 4, 5, 4]
"""Padding that is a token, too (0), and a text that it must not be taken for."""
SCORES = np.linspace(-2, 2, 8, dtype=np.float32)[None]


def after(tokens: list[int], padding: int, new: list[int], **settings) -> np.ndarray:
    """The scores that the rules leave behind these tokens, of which the first `padding` are none, and behind `new` ones."""
    written = Written(
        tokens=jnp.array([[*tokens, *new, 7, 7]]),
        used=jnp.array([len(tokens) - padding]),
        limit=jnp.array([len(new) + 2]),
        source=jnp.array([[-1] * padding + tokens[padding:]]),
        prompt=len(tokens),
    )
    chosen = rules(GenerationConfig.from_json(settings), ends=(6,))
    assert chosen
    return np.asarray(apply_rules(chosen, jnp.asarray(SCORES), written, jnp.array(len(new))))[0]


@pytest.mark.parametrize("new", [[], [0], [5, 0]], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.5},
        {"encoder_repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"encoder_no_repeat_ngram_size": 1},
        {"encoder_no_repeat_ngram_size": 2},
        {"sequence_bias": [[[0, 4, 5, 4, 3], 5.0], [[0, 4, 5, 4, 0, 2], 5.0]]},
        {"bad_words_ids": [[0, 4, 5, 4, 3], [0, 4, 5, 4, 0, 2]]},
        {"min_length": 5},
        {"forced_bos_token_id": 2},
    ],
    ids=str,
)
def test_padding_counts_for_nothing(settings, new):
    np.testing.assert_array_equal(after(PADDED, 3, new, **settings), after(PADDED[3:], 0, new, **settings))
    one = after([0, 0, 4], 2, new, **settings), after([4], 0, new, **settings)
    np.testing.assert_array_equal(*one)


def test_what_is_forbidden():
    assert np.isinf(after(PADDED, 3, [5], no_repeat_ngram_size=2)).nonzero()[0].tolist() == [4]
    assert np.isinf(after([0, 0, 4], 2, [0], no_repeat_ngram_size=2)).sum() == 0
    assert np.isinf(after(PADDED, 3, [], encoder_no_repeat_ngram_size=1)).nonzero()[0].tolist() == [4, 5]
    assert np.isinf(after(PADDED, 3, [2, 3], bad_words_ids=[[1], [2, 3, 5], [4, 3]])).nonzero()[0].tolist() == [1, 5]
    assert np.isinf(after([4], 0, [], begin_suppress_tokens=[2])).nonzero()[0].tolist() == [2]
    assert not np.isinf(after([4], 0, [3], begin_suppress_tokens=[2])).any()
