"""Contrastive pretraining: what is masked and drawn, and the losses against a slow, obvious oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Contrastive, ObjectiveError
from objectives.losses import IGNORED
from tests.objectives.conftest import uniform

CONV = dict(conv_kernel=(4, 2), conv_stride=(2, 2))
OBJECTIVE = Contrastive(**CONV, mask_time_prob=0.5, mask_time_length=3, num_negatives=4, groups=2, codes=5)
SAMPLES, FEATURES, BATCH = 120, 6, 3
LENGTHS = np.array([120, 90, 24])


def seen(objective: Contrastive = OBJECTIVE, count: int = BATCH, step: int = 0) -> dict[str, np.ndarray]:
    lengths = np.resize(LENGTHS, count)
    batch = {
        "input_values": jnp.zeros((count, SAMPLES)),
        "attention_mask": jnp.asarray(np.arange(SAMPLES) < lengths[:, None], jnp.int32),
        "step": jnp.full(count, step),
    }
    keys = jax.random.split(jax.random.key(0), count)
    return {name: np.asarray(x) for name, x in jax.jit(jax.vmap(objective.corrupt))(keys, batch).items()}


def on_device(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x) for name, x in batch.items()}


def frames(samples: int) -> int:
    return ((samples - 4) // 2 + 1 - 2) // 2 + 1


def outputs(batch: dict[str, np.ndarray], seed: int = 1) -> dict[str, jax.Array]:
    rng, (rows, places) = np.random.default_rng(seed), batch["masked_positions"].shape
    return {
        "projected_states": jnp.asarray(rng.normal(size=(rows, places, FEATURES)), jnp.float32),
        "projected_quantized_states": jnp.asarray(rng.normal(size=(rows, places, FEATURES)), jnp.float32),
        "codevector_indices": jnp.asarray(rng.integers(0, 2, (rows, places, 2))),
        "codevector_logits": jnp.asarray(rng.normal(size=(rows, places, 2, 5)), jnp.float32),
        "conv_features": jnp.asarray(rng.normal(size=(rows, frames(SAMPLES), 7)), jnp.float32),
    }


def test_places_are_the_masked_frames_and_distractors_are_others_of_them():
    batch = seen(count=600)
    for row in range(600):
        masked = np.flatnonzero(batch["mask_time_indices"][row])
        assert masked.max() < frames(int(np.resize(LENGTHS, 600)[row]))
        asked = batch["labels"][row] == 0
        count = int(asked.sum())
        assert count == len(masked) > 1 and (batch["labels"][row][count:] == IGNORED).all()
        np.testing.assert_array_equal(batch["masked_positions"][row][:count], masked)
        drawn = batch["sampled_negative_indices"][row][:count]
        assert drawn.shape == (count, 4) and drawn.min() >= 0 and drawn.max() < count
        assert (drawn != np.arange(count)[:, None]).all(), "never the right one"
    assert batch["gumbel_noise"].shape == (600, batch["labels"].shape[1], 2, 5)
    assert abs(batch["gumbel_noise"].mean() - 0.5772) < 0.01


def test_distractors_are_drawn_evenly():
    batch = seen(count=3_000)
    rows = [row for row in range(3_000) if (batch["labels"][row] == 0).sum() == 12]
    firsts = np.concatenate([batch["sampled_negative_indices"][row, 0] for row in rows])
    assert len(rows) > 100 and uniform(np.bincount(firsts, minlength=12)[1:])


def test_the_temperature_falls_with_the_steps():
    for step in (0, 1_000, 100_000, 1_000_000):
        expected = max(2 * 0.999995**step, 0.5)
        np.testing.assert_allclose(seen(step=step)["gumbel_temperature"], expected, rtol=1e-4)


def test_losses_are_those_of_the_papers_equations():
    batch = seen()
    given = outputs(batch)
    found = OBJECTIVE.losses(OBJECTIVE.sums(given, on_device(batch)))
    out = {name: np.asarray(x, np.float64) for name, x in given.items()}
    contrastive, count, codes, right = 0.0, 0, np.zeros((2, 5)), 0
    for row in range(BATCH):
        for place in np.flatnonzero(batch["labels"][row] == 0):
            state, target = out["projected_states"][row, place], out["projected_quantized_states"][row]
            candidates, own = [place], out["codevector_indices"][row, place]
            for other in batch["sampled_negative_indices"][row, place]:
                if (out["codevector_indices"][row, other] != own).any():
                    candidates.append(other)
            cosines = [state @ target[c] / np.linalg.norm(state) / np.linalg.norm(target[c]) for c in candidates]
            scores = np.array(cosines) / 0.1
            contrastive += np.log(np.exp(scores).sum()) - scores[0]
            right += scores[0] == scores.max()
            logits = out["codevector_logits"][row, place]
            codes += np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
            count += 1
    mean = codes / count
    diversity = (10 - np.exp(-(mean * np.log(mean)).sum(axis=-1)).sum()) / 10
    heard = np.concatenate([out["conv_features"][row, : frames(LENGTHS[row])].ravel() for row in range(BATCH)])
    assert found["contrastive_loss"] == pytest.approx(contrastive / count, rel=1e-5)
    assert found["diversity_loss"] == pytest.approx(0.1 * diversity, rel=1e-4)
    assert found["feature_penalty"] == pytest.approx(10 * (heard**2).mean(), rel=1e-5)
    amount, weight = OBJECTIVE.metrics(given, on_device(batch))["contrastive_accuracy"]
    assert (amount, weight) == (right, count)


def test_an_utterance_of_one_masked_frame_asks_nothing_and_all_equal_codes_are_no_distractors():
    one = Contrastive(
        **CONV, mask_time_prob=0.01, mask_time_length=1, mask_time_min_masks=1, num_negatives=4, groups=2, codes=5
    )
    batch = seen(one)
    given = outputs(batch)
    totals = one.sums(given, on_device(batch))
    assert totals["contrastive"] == (0, 0) and np.isfinite(list(one.losses(totals).values())).all()
    batch = seen()
    given = outputs(batch) | {"codevector_indices": jnp.zeros((BATCH, batch["labels"].shape[1], 2), jnp.int32)}

    def loss(states):
        return OBJECTIVE.losses(OBJECTIVE.sums({**given, "projected_states": states}, on_device(batch)))[
            "contrastive_loss"
        ]

    value, gradient = jax.value_and_grad(loss)(given["projected_states"])
    assert value == 0 and not np.asarray(gradient).any()


def test_codes_that_collapse_cost_most_and_even_ones_nothing():
    batch = seen()
    given = outputs(batch)
    shape = given["codevector_logits"].shape
    for logits, expected in ((jnp.zeros(shape), 0.0), (jnp.zeros(shape).at[..., 3].set(50.0), 0.1 * (10 - 2) / 10)):
        losses = OBJECTIVE.losses(OBJECTIVE.sums({**given, "codevector_logits": logits}, on_device(batch)))
        assert losses["diversity_loss"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "broken",
    [
        dict(mask_time_prob=0.0),
        dict(mask_time_prob=1.5),
        dict(mask_time_length=0),
        dict(num_negatives=0),
        dict(temperature=0.0),
        dict(gumbel_decay=0.0),
    ],
)
def test_impossible_settings_are_refused(broken):
    with pytest.raises(ObjectiveError):
        Contrastive(**broken)


def test_audio_that_is_too_short_is_refused():
    with pytest.raises(ObjectiveError, match=r"100 samples are 0 frames.*give longer audio"):
        Contrastive().corrupt(jax.random.key(0), {"input_values": jnp.zeros(100), "attention_mask": jnp.ones(100)})
