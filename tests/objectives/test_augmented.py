"""An objective on augmented examples: each has chances of its own, and evaluation none."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.images.augmentation import Augmentation
from objectives import Augmented, Classification, MaskedImage, Objective, ObjectiveError

MASKED = MaskedImage(patch_size=2, mask_patch_size=4)
ALONE = Augmentation(erasing=0.5)
MIXED = Augmentation(mixup=0.8, cutmix=1.0)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    pictures = {
        name: rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for name in ("pixel_values", "other_pixel_values")
    }
    return jax.tree.map(jnp.asarray, {**pictures, "labels": np.int32(3), "other_labels": np.int32(4)})


@pytest.mark.parametrize(
    ("objective", "augment", "training", "reads"),
    [
        (Classification(), ALONE, True, ("pixel_values", "labels")),
        (Classification(), MIXED, True, ("pixel_values", "labels", "other_pixel_values", "other_labels")),
        (Classification(), MIXED, False, ("pixel_values", "labels")),
        (Classification(soft=True), MIXED, True, ("pixel_values", "targets", "other_pixel_values", "other_targets")),
        (MASKED, MIXED, True, ("pixel_values", "other_pixel_values")),
        (Objective(), ALONE, True, ("pixel_values",)),
    ],
)
def test_reads_what_both_do(objective, augment, training, reads):
    assert Augmented(objective, augment, training).reads == reads


@pytest.mark.parametrize(("augment", "training"), [(ALONE, True), (MIXED, True), (MIXED, False)])
@pytest.mark.parametrize("objective", [Classification(), MASKED], ids=lambda objective: type(objective).__name__)
def test_writes_what_it_says(example, objective, augment, training):
    augmented = Augmented(objective, augment, training)
    given = {name: example[name] for name in augmented.reads}
    seen = augmented.corrupt(jax.random.key(0), given)
    changed = {name for name in seen if name not in given or seen[name] is not given[name]}
    assert changed == set(augmented.writes)


def test_the_objective_draws_as_if_it_were_alone_and_augmentation_apart_from_it(example):
    key = jax.random.key(3)
    alone = MASKED.corrupt(key, example)
    for augment in (ALONE, MIXED):
        seen = Augmented(MASKED, augment).corrupt(key, example)
        np.testing.assert_array_equal(seen["bool_masked_pos"], alone["bool_masked_pos"])
        assert (seen["pixel_values"] != augment(key, example, True)["pixel_values"]).any(), "not with the same key"


def test_evaluation_changes_nothing_by_chance(example):
    seen = [Augmented(Classification(), MIXED, False).corrupt(jax.random.key(seed), example) for seed in range(3)]
    for one in seen:
        np.testing.assert_array_equal(one["pixel_values"], MIXED.normalized(example["pixel_values"]))
        assert "mix" not in one


def test_everything_else_is_the_objective(example):
    objective = Classification(smoothing=0.1)
    augmented = Augmented(objective, MIXED).bind(SimpleNamespace(classes=10))
    assert augmented == Augmented(objective, MIXED).bind(SimpleNamespace(classes=10))
    assert augmented.objective.vocabulary.classes == augmented.vocabulary.classes == 10
    assert (augmented.takes, augmented.asks, augmented.needs) == (objective.takes, objective.asks, objective.needs)
    outputs = {"logits": jax.random.normal(jax.random.key(0), (2, 10))}
    batch = {"labels": jnp.arange(2)}
    for part in ("loss", "metrics", "targets"):
        found, wanted = getattr(augmented, part)(outputs, batch), getattr(objective, part)(outputs, batch)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, found, wanted)), part
    with pytest.raises(ObjectiveError, match="has no classes"):
        Augmented(objective, MIXED).bind(SimpleNamespace(size=10))
