"""Teacher forcing: what the decoder reads and is asked for, and the smoothed loss as the formula has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import ObjectiveError, Seq2Seq
from objectives.losses import IGNORED
from objectives.text.seq2seq import shift_right


def test_the_decoder_reads_the_labels_one_place_late(written):
    labels = jnp.array([10, 11, 12, 6, IGNORED, IGNORED])
    example = {"input_ids": jnp.arange(4), "labels": labels}
    for start in ("eos", "pad", "bos"):
        seen = Seq2Seq(start=start).bind(written).corrupt(jax.random.key(0), example)
        assert seen["decoder_input_ids"].tolist() == [getattr(written, start), 10, 11, 12, 6, written.pad]
        assert seen["decoder_attention_mask"].tolist() == [1, 1, 1, 1, 0, 0]
        assert (seen["labels"] == labels).all() and (seen["input_ids"] == example["input_ids"]).all()


@pytest.mark.parametrize("length", [1, 2, 9])
def test_shift_right(length):
    labels = np.random.default_rng(0).integers(0, 50, length)
    labels[length // 2 + 1 :] = IGNORED
    expected = [7, *(3 if label == IGNORED else label for label in labels[:-1])]
    assert shift_right(jnp.asarray(labels), 7, 3).tolist() == expected


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_reference_formula(written, smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 20)).astype(np.float32) * 2
    labels = rng.integers(0, 20, (3, 5))
    labels[0, 2:] = IGNORED
    objective = Seq2Seq(label_smoothing=smoothing).bind(written)
    outputs, batch = {"logits": jnp.asarray(logits)}, {"labels": jnp.asarray(labels)}
    amount, weight = objective.loss(outputs, batch)["seq2seq_loss"]
    right, count = objective.metrics(outputs, batch)["target_accuracy"]
    expected, hits = 0.0, 0
    for row, place in zip(*np.nonzero(labels != IGNORED), strict=True):
        scores = logits[row, place].astype(np.float64)
        log_probabilities = scores - np.log(np.exp(scores).sum())
        target = np.full(20, smoothing / 20)
        target[labels[row, place]] += 1 - smoothing
        expected -= (target * log_probabilities).sum()
        hits += int(scores.argmax() == labels[row, place])
    assert weight == count == 12 and right == hits
    np.testing.assert_allclose(amount, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_impossible_settings_are_refused(smoothing):
    with pytest.raises(ObjectiveError):
        Seq2Seq(label_smoothing=smoothing)
