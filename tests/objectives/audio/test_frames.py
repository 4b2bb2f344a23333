"""Spans of masked frames: as many, as long and as evenly spread as the released code draws them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives.audio.frames import frames_of, most_spans, spans
from tests.objectives.conftest import uniform

COUNT = 4_000


def drawn(places: int, used: int, **settings) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), COUNT)
    return np.asarray(jax.jit(jax.vmap(lambda key: spans(key, places, jnp.asarray(used), **settings)))(keys))


def test_frames_are_those_of_the_convolutions():
    kernel, stride = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    for samples in (400, 719, 720, 16_000, 250_000):
        length = samples
        for size, step in zip(kernel, stride, strict=True):
            length = len(range(0, length - size + 1, step))
        assert frames_of(samples, kernel, stride) == length
    assert frames_of(399, kernel, stride) < 1


def test_about_half_of_a_long_utterance_is_masked_in_spans_of_at_least_ten():
    mask = drawn(780, 700, rate=0.65, length=10, least=2)
    assert not mask[:, 700:].any()
    assert 0.47 < mask[:, :700].mean() < 0.51, "Baevski et al., section 4.2: about 49 %"
    for row in mask[:50]:
        changes = np.flatnonzero(np.diff(np.pad(row.astype(int), 1)))
        runs = changes[1::2] - changes[::2]
        assert runs.min() >= 10 and runs.sum() <= most_spans(780, 0.65, 10, 2) * 10


@pytest.mark.parametrize("length", [1, 4])
def test_spans_begin_everywhere_alike(length):
    mask = drawn(20, 16, rate=length / 16, length=length, least=0)  # one span each
    assert (mask.sum(axis=1) == length).all()
    begins = mask.argmax(axis=1)
    assert begins.max() == 16 - length and uniform(np.bincount(begins, minlength=17 - length))


def test_the_number_of_spans_is_rounded_by_chance_and_bounded_by_the_room():
    counts = drawn(20, 20, rate=0.13, length=1, least=0).sum(axis=1)  # 2.6 of them
    assert set(counts.tolist()) == {2, 3} and abs(counts.mean() - 2.6) < 0.04
    assert (drawn(20, 5, rate=0.0, length=3, least=2).sum(axis=1) >= 4).all()
    assert (drawn(20, 3, rate=0.9, length=3, least=2).sum(axis=1) == 3).all(), "room for one"
    assert not drawn(20, 2, rate=0.9, length=3, least=2).any() and not drawn(20, 0, rate=0.9, length=3, least=2).any()
