"""Replaced-token detection: both losses as the formulas have them, with a joint model that samples as it is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import MaskedLM, ObjectiveError, ReplacedTokenDetection
from objectives.losses import IGNORED
from tests.examples import batch
from tests.objectives.text.test_masked import corrupt, within

COUNT, LENGTH = 24, 48


@pytest.fixture(scope="module")
def seen(vocabulary):
    return corrupt(ReplacedTokenDetection().bind(vocabulary), batch(range(COUNT), LENGTH))


def joint(batch, vocabulary, scale=2.0):
    """Outputs of a joint model that knows nothing: random logits, and samples of them in the place of the masks."""
    generator = jax.random.normal(jax.random.key(0), (*batch["labels"].shape, vocabulary.size)) * scale
    keys = jax.vmap(lambda data: jax.random.wrap_key_data(data, impl="threefry2x32"))(batch["sampling_key"])
    samples = jax.vmap(jax.random.categorical)(keys, generator)
    asked = batch["labels"] != IGNORED
    places = jnp.where(asked, batch["masked_positions"], LENGTH)
    rows = jnp.arange(len(places))[:, None]
    changed = jnp.zeros(batch["input_ids"].shape, bool)
    return {
        "generator_logits": generator,
        "discriminator_logits": jax.random.normal(jax.random.key(1), batch["input_ids"].shape) * scale,
        "replaced": changed.at[rows, places].set(samples != batch["labels"], mode="drop"),
    }


def test_corrupts_as_masked_language_modelling_with_masks_and_originals_alone(vocabulary):
    examples = batch(range(1_500), LENGTH)
    objective = ReplacedTokenDetection().bind(vocabulary)
    seen = corrupt(objective, examples)
    assert set(objective.writes) <= set(seen)
    asked = seen["labels"] != IGNORED
    shown = np.take_along_axis(seen["input_ids"], seen["masked_positions"], axis=1)[asked]
    assert ((shown == vocabulary.mask) | (shown == seen["labels"][asked])).all()
    assert within(int((shown == vocabulary.mask).sum()), int(asked.sum()), 0.85)
    large = corrupt(ReplacedTokenDetection(masking=MaskedLM(rate=0.25)).bind(vocabulary), examples)
    assert large["labels"].shape[1] == 12


def test_every_example_has_a_sampling_key_of_its_own(seen):
    assert seen["sampling_key"].shape == (COUNT, 2) and seen["sampling_key"].dtype == np.uint32
    assert len({tuple(key) for key in seen["sampling_key"]}) == COUNT


def test_losses_are_the_reference_formulas(vocabulary, seen):
    batch = jax.tree.map(jnp.asarray, seen)
    outputs = joint(batch, vocabulary)
    losses = ReplacedTokenDetection().bind(vocabulary).loss(outputs, batch)
    generator = detection = 0.0
    for row in range(COUNT):
        for slot, label in enumerate(seen["labels"][row]):
            if label != IGNORED:
                scores = np.asarray(outputs["generator_logits"][row, slot], np.float64)
                generator -= scores[label] - np.log(np.exp(scores).sum())
        for place in range(LENGTH):
            if seen["attention_mask"][row, place]:
                probability = 1 / (1 + np.exp(-float(outputs["discriminator_logits"][row, place])))
                detection -= np.log(probability if outputs["replaced"][row, place] else 1 - probability)
    np.testing.assert_allclose(losses["generator_loss"][0], generator, rtol=1e-5)
    np.testing.assert_allclose(losses["detection_loss"][0], 50 * detection, rtol=1e-5)
    assert losses["generator_loss"][1] == (seen["labels"] != IGNORED).sum()
    assert losses["detection_loss"][1] == seen["attention_mask"].sum()


def test_weights_do_not_depend_on_outputs(vocabulary, seen):
    batch = jax.tree.map(jnp.asarray, seen)
    objective = ReplacedTokenDetection().bind(vocabulary)
    one = objective.loss(joint(batch, vocabulary), batch)
    zeros = jax.tree.map(jnp.zeros_like, joint(batch, vocabulary))
    assert all(one[name][1] == pair[1] for name, pair in objective.loss(zeros, batch).items())


def test_metrics_count_what_they_say(vocabulary):
    outputs = {
        "generator_logits": jnp.array([[[0.0, 3.0], [2.0, 1.0]]]),
        "discriminator_logits": jnp.array([[1.0, 1.0, -1.0, 1.0, 2.0, 5.0]]),
        "replaced": jnp.array([[True, False, True, False, True, True]]),
    }
    batch = {"labels": jnp.array([[1, 1]]), "attention_mask": jnp.array([[1, 1, 1, 1, 1, 0]])}
    metrics = ReplacedTokenDetection().bind(vocabulary).metrics(outputs, batch)
    expected = {
        "generator_accuracy": (1, 2),
        "detection_accuracy": (2, 5),
        "detection_precision": (2, 4),
        "detection_recall": (2, 3),
    }
    assert {name: tuple(map(float, pair)) for name, pair in metrics.items()} == expected


def test_the_gradient_of_detection_is_probability_minus_truth(vocabulary, seen):
    batch = jax.tree.map(jnp.asarray, seen)
    outputs = joint(batch, vocabulary)
    objective = ReplacedTokenDetection().bind(vocabulary)

    def loss(logits):
        return objective.loss({**outputs, "discriminator_logits": logits}, batch)["detection_loss"][0]

    logits = outputs["discriminator_logits"]
    expected = 50 * (jax.nn.sigmoid(logits) - outputs["replaced"]) * batch["attention_mask"]
    np.testing.assert_allclose(jax.grad(loss)(logits), expected, atol=1e-4)


def test_impossible_settings_are_refused():
    with pytest.raises(ObjectiveError, match="detection_weight"):
        ReplacedTokenDetection(detection_weight=-1.0)
