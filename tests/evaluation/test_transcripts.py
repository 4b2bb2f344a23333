"""Error rates of transcripts that are spread over frames."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.audio.characters import Characters
from evaluation.bootstrap import interval
from evaluation.metrics.transcripts import Transcripts
from objectives.losses import IGNORED

CHARACTERS = Characters.of(["ABC"])
SAID = ["AB C", "A", "", "CC A"]
RIGHT = ["AB C", "AB", "", "CA A"]


def frames(text: str, length: int) -> list[int]:
    """The text as a path: a blank behind each token, so that two alike stay two."""
    path = [number for token in CHARACTERS.encode(text) for number in (token, token, CHARACTERS.pad)]
    return path + [5] * (length - len(path))  # behind the end of the recording, which nobody asks


def test_the_rates_are_those_of_the_likeliest_frames():
    length = 16
    logits = 5 * jax.nn.one_hot(jnp.array([frames(text, length) for text in SAID]), CHARACTERS.size)
    labels = np.full((len(RIGHT), 6), IGNORED)
    for row, text in enumerate(RIGHT):
        labels[row, : len(text)] = CHARACTERS.encode(text)
    lengths = jnp.array([3 * len(text) for text in SAID])
    metric = Transcripts()
    state = jax.device_get(metric.update({"logits": logits}, {"labels": jnp.asarray(labels), "logit_lengths": lengths}))
    rows = metric.judged(state, SimpleNamespace(characters=CHARACTERS))
    figures = metric.compute(rows)
    assert figures["wer"] == pytest.approx(100 * 2 / 5), "A for AB and CC for CA, of 5 words"
    assert figures["cer"] == pytest.approx(100 * 2 / 10), "of 10 characters, spaces counted"
    many = {name: np.tile(counts, 10) for name, counts in rows.items()}
    low, high = interval(metric.compute, many)["wer"]
    assert low <= figures["wer"] <= high
