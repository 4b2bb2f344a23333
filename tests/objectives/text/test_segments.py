"""Two texts in the frame of a tokenizer, whatever that puts before, between and behind them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from data.text.framing import Framing
from objectives.text.segments import Segment, lay_out

FRAMES = {
    "BERT": Framing(pair_begin=(2,), between=(3,), pair_end=(3,)),
    "RoBERTa": Framing(pair_begin=(2,), between=(3, 3), pair_end=(3,)),
    "Llama": Framing(pair_begin=(2,), between=(2,)),
    "T5": Framing(between=(3,), pair_end=(3,)),
    "mBART": Framing(pair_end=(3, 4)),
    "none": Framing(),
}


@pytest.mark.parametrize("length_b", [5, 0])
@pytest.mark.parametrize("name", FRAMES)
def test_two_texts_stand_in_the_frame_of_the_tokenizer(vocabulary, name, length_b):
    framing = FRAMES[name]
    written = SimpleNamespace(**{**vars(vocabulary), "framing": framing})
    first = Segment(jnp.arange(100, 120), jnp.asarray(2), jnp.asarray(7))
    second = Segment(jnp.arange(150, 170), jnp.asarray(0), jnp.asarray(length_b))
    seen = lay_out((jax.random.key(0), jax.random.key(1)), written, 24, first, second)
    a, b = list(range(102, 109)), list(range(150, 150 + length_b))
    ids, begins_b = framing.pair(a, b), len(framing.pair_begin) + len(a) + len(framing.between)
    padding = [0] * (24 - len(ids))
    assert seen["input_ids"].tolist() == ids + padding
    assert seen["attention_mask"].tolist() == [1] * len(ids) + padding
    assert seen["token_type_ids"].tolist() == [0] * begins_b + [1] * (len(ids) - begins_b) + padding
    assert seen["special_tokens_mask"].tolist() == [int(i < 100) for i in ids] + [1] * len(padding)


@pytest.mark.parametrize("name", FRAMES)
def test_texts_that_are_too_long_fill_the_frame(vocabulary, name):
    framing = FRAMES[name]
    written = SimpleNamespace(**{**vars(vocabulary), "framing": framing})
    first, second = (Segment(jnp.arange(b, b + 20), jnp.asarray(0), jnp.asarray(20)) for b in (100, 150))
    seen = lay_out((jax.random.key(0), jax.random.key(1)), written, 24, first, second)
    ids = seen["input_ids"].tolist()
    a, b = ([i for i in ids if begin <= i < begin + 20] for begin in (100, 150))
    assert ids == framing.pair(a, b) and seen["attention_mask"].tolist() == [1] * 24
