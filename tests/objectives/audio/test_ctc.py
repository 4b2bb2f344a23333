"""Connectionist temporal classification against all ways to spread tokens, written out; torch's in tests/parity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Ctc, ObjectiveError
from objectives.audio.ctc import frames_needed, greedy
from objectives.losses import IGNORED

CONV = dict(conv_kernel=(4, 2), conv_stride=(2, 2))
OBJECTIVE = Ctc(**CONV, hidden_size=16)
CASES = [[1, 2], [1, 1], [2], [], [1, 1, 1], [1, 2, 1, 2]]
SAMPLES = [24, 24, 10, 24, 20, 16]


def frames(samples: int) -> int:
    return ((samples - 4) // 2 + 1 - 2) // 2 + 1


def batch() -> dict[str, jax.Array]:
    labels = np.full((len(CASES), 4), IGNORED)
    for row, case in enumerate(CASES):
        labels[row, : len(case)] = case
    mask = np.arange(24) < np.array(SAMPLES)[:, None]
    lengths = jnp.array([frames(samples) for samples in SAMPLES])
    return {"labels": jnp.asarray(labels), "attention_mask": jnp.asarray(mask, jnp.int32), "logit_lengths": lengths}


def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(CASES), frames(24), 3)).astype(np.float32)


def written_out(logits: np.ndarray, case: list[int]) -> float:
    """-log Σ over all paths of blanks (0) and tokens that become the case."""
    log = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    total = 0.0
    for path in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        collapsed = [token for token, _ in itertools.groupby(path) if token]
        if collapsed == case:
            total += np.exp(sum(log[frame, token] for frame, token in enumerate(path)))
    return -np.log(total) if total else np.inf


def test_the_loss_is_that_of_all_paths_and_impossible_transcripts_count_for_nothing():
    expected = [written_out(logits()[row, : frames(SAMPLES[row])], case) for row, case in enumerate(CASES)]
    assert [frames(n) for n in SAMPLES] == [5, 5, 2, 5, 4, 3]
    assert np.isinf(expected[4]) and np.isinf(expected[5]), "3 + 2 frames in 4, 4 in 3"
    amount, weight = OBJECTIVE.loss({"logits": jnp.asarray(logits())}, batch())["ctc_loss"]
    assert weight == 2 + 2 + 1 + 1
    assert amount == pytest.approx(sum(expected[:4]), rel=1e-5)
    np.testing.assert_array_equal(frames_needed(batch()["labels"]), [2, 3, 1, 1, 5, 4])


def test_gradients_reach_no_padding_and_no_impossible_transcript():
    gradient = jax.grad(lambda x: OBJECTIVE.loss({"logits": x}, batch())["ctc_loss"][0])(jnp.asarray(logits()))
    for row, samples in enumerate(SAMPLES):
        assert not np.asarray(gradient[row, frames(samples) :]).any()
        assert np.asarray(gradient[row, : frames(samples)]).any() == (row < 4)
    assert np.isfinite(gradient).all()


def test_frames_and_features_are_masked():
    objective = Ctc(
        **CONV, mask_time_prob=0.3, mask_time_length=2, mask_feature_prob=0.5, mask_feature_length=4, hidden_size=16
    )
    example = {
        "input_values": jnp.zeros(200),
        "attention_mask": jnp.ones(200, jnp.int32),
        "labels": jnp.zeros(2, jnp.int32),
    }
    keys = jax.random.split(jax.random.key(0), 500)
    found = jax.vmap(lambda key: objective.corrupt(key, example))(keys)
    assert found["mask_time_indices"].shape == (500, frames(200)) and 0.2 < found["mask_time_indices"].mean() < 0.3
    features = np.asarray(found["mask_feature_indices"])
    assert features.shape == (500, 16) and set(features.sum(axis=1).tolist()) <= set(range(4, 9))
    plain = Ctc(**CONV, mask_time_prob=0.0).corrupt(jax.random.key(0), example)
    assert plain.keys() == {*example, "logit_lengths"} and plain["logit_lengths"] == frames(200)


def test_greedy_decoding_leaves_out_blanks_and_repetitions():
    best = [[1, 1, 0, 1, 2, 2, 0], [0, 0, 3, 3, 3, 0, 1]]
    found = greedy(jax.nn.one_hot(jnp.array(best), 4), jnp.array([7, 6]), 0)
    rows = [[token for token in row if token != IGNORED] for row in np.asarray(found).tolist()]
    assert rows == [[1, 1, 2], [3]]


@pytest.mark.parametrize(
    "broken",
    [dict(mask_time_prob=-0.1), dict(mask_time_length=0), dict(mask_feature_prob=0.1, mask_feature_length=1_000)],
)
def test_impossible_settings_are_refused(broken):
    with pytest.raises(ObjectiveError):
        Ctc(**broken)
