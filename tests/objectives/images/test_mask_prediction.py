"""Masks with classes as a set: the losses against an oracle with loops, and what they do not depend on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from objectives import ObjectiveError
from objectives.checks import loss_weights
from objectives.images.mask_prediction import MaskPrediction, evenly
from objectives.losses import IGNORED
from tests.models.kernels.test_deformable_attention import looked_up

QUERIES, CLASSES, OBJECTS, LAYERS = 5, 3, 4, 2
OBJECTIVE = MaskPrediction(num_points=40)


def outputs(images: int = 3) -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    shapes = {"class_queries_logits": (QUERIES, CLASSES + 1), "masks_queries_logits": (QUERIES, 6, 8)}
    found = {name: random.normal(size=(images, *shape)) * 2 for name, shape in shapes.items()}
    found |= {f"auxiliary_{name}": random.normal(size=(images, LAYERS, *shape)) * 2 for name, shape in shapes.items()}
    return {name: jnp.asarray(x, jnp.float32) for name, x in found.items()}


def batch(counts=(2, 0, 4), objects: int = OBJECTS) -> dict[str, jax.Array]:
    """Pictures with so many objects each."""
    random, images = np.random.default_rng(1), len(counts)
    there = np.arange(objects) < np.array(counts)[:, None]
    labels = np.where(there, random.integers(0, CLASSES, (images, OBJECTS))[:, :objects], IGNORED)
    masks = (random.random((images, OBJECTS, 12, 20)) < 0.4)[:, :objects] & there[..., None, None]
    examples = dict(class_labels=jnp.asarray(labels, jnp.int32), mask_labels=jnp.asarray(masks, jnp.uint8))
    keys = jax.random.split(jax.random.key(7), images)
    return jax.vmap(OBJECTIVE.corrupt)(keys, examples)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def points_of(masks: np.ndarray, key: jax.Array, output: int, objective=OBJECTIVE):
    """The points of the matching, and of each object those that its mask is least certain at, and even ones."""
    keys = objective.keys(key, output)
    matching = np.asarray(jax.random.uniform(keys[0], (objective.num_points, 2)))
    uncertain = int(0.75 * objective.num_points)
    each = []
    for number, mask in enumerate(masks):
        candidates = np.asarray(evenly(keys[1], OBJECTS, 3 * objective.num_points))[number]
        certain = np.abs([looked_up(mask, *point) for point in candidates])
        best = candidates[np.argsort(certain, kind="stable")[:uncertain]]
        even = np.asarray(evenly(keys[2], OBJECTS, objective.num_points - uncertain))[number]
        each.append(np.concatenate([best, even]))
    return matching, each


def slow(scores: np.ndarray, masks: np.ndarray, labels: np.ndarray, truth: np.ndarray, key, output: int):
    """(sum of class losses, their weights, sums of mask and dice losses) of one picture by one output."""
    objects = int((labels != IGNORED).sum())
    probable = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    even, _ = points_of(masks[:0], key, output)
    seen = np.array([[looked_up(mask, *point) for point in even] for mask in masks])
    is_there = np.array([[looked_up(mask, *point) for point in even] for mask in truth[:objects]]).reshape(
        objects, len(even)
    )
    costs = np.zeros((QUERIES, objects))
    for q in range(QUERIES):
        for o in range(objects):
            p, t = sigmoid(seen[q]), is_there[o]
            entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
            dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
            costs[q, o] = -2 * probable[q, labels[o]] + 5 * entropy + 5 * dice
    queries, targets = linear_sum_assignment(costs)
    classes = np.full(QUERIES, CLASSES)
    classes[queries] = labels[targets]
    weights = np.where(classes == CLASSES, 0.1, 1.0)
    class_loss = -(weights * np.log(probable[np.arange(QUERIES), classes])).sum()
    ordered = queries[np.argsort(targets)]
    _, points = points_of(masks[ordered], key, output)
    entropy = dice = 0.0
    for o in range(objects):
        p = sigmoid(np.array([looked_up(masks[ordered[o]], *point) for point in points[o]]))
        t = np.array([looked_up(truth[o], *point) for point in points[o]])
        entropy += -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
        dice += 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    return class_loss, weights.sum(), entropy, dice


def test_losses_are_those_of_loops():
    found, asked = outputs(), batch()
    scores, masks = (np.asarray(x, np.float64) for x in OBJECTIVE.predictions(found))
    sums, weights, objects = np.zeros(3), 0.0, 0
    for image, key in enumerate(OBJECTIVE.asked(asked).key):
        labels, truth = np.asarray(asked["class_labels"][image]), np.asarray(asked["mask_labels"][image], np.float64)
        objects += (labels != IGNORED).sum()
        for output in range(LAYERS + 1):
            parts = slow(scores[output, image], masks[output, image], labels, truth, key, output)
            sums += [2 * parts[0], 5 * parts[2], 5 * parts[3]]
        weights += parts[1]
    losses = jax.jit(OBJECTIVE.loss)(found, asked)
    np.testing.assert_allclose([losses[x][0] for x in ("class_loss", "mask_loss", "dice_loss")], sums, rtol=1e-5)
    np.testing.assert_allclose([losses[x][1] for x in ("class_loss", "mask_loss")], [weights, objects], rtol=1e-6)


def test_losses_of_parts_of_a_batch_add_up():
    """With other numbers of objects in each part, so that means of means would be another number."""
    found, asked = outputs(), batch()
    loss = jax.jit(OBJECTIVE.loss)
    whole = loss(found, asked)
    parts = [
        loss(*(jax.tree.map(lambda x, rows=rows: x[rows], tree) for tree in (found, asked)))
        for rows in (slice(0, 1), slice(1, 3))
    ]
    for name, pair in whole.items():
        for n in range(2):
            np.testing.assert_allclose(sum(part[name][n] for part in parts), pair[n], rtol=1e-5)


def test_rows_of_padding_change_nothing():
    found = outputs()
    loss = jax.jit(OBJECTIVE.loss)
    wide, narrow = loss(found, batch((2, 0, 1))), loss(found, batch((2, 0, 1), objects=2))
    for one, other in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_weights_are_known_beforehand_and_more_objects_than_queries_leave_none_idle():
    asked = batch()
    many = {name: jnp.concatenate([x, x], axis=1) if name != "points_key" else x for name, x in asked.items()}
    weights = loss_weights(OBJECTIVE, jax.eval_shape(outputs), many)
    np.testing.assert_allclose(weights["class_loss"], (4 + 0.1) + 0.5 + 5, rtol=1e-6)
    assert weights["mask_loss"] == weights["dice_loss"] == 12
    found = jax.jit(OBJECTIVE.loss)(outputs(), many)
    assert all(np.isfinite(x) for x in jax.tree.leaves(found))


def test_a_batch_without_objects_asks_for_classes_alone():
    losses = jax.jit(OBJECTIVE.loss)(outputs(), batch((0, 0, 0)))
    assert losses["mask_loss"] == (0, 0) and losses["dice_loss"] == (0, 0)
    np.testing.assert_allclose(losses["class_loss"][1], 3 * QUERIES * 0.1, rtol=1e-6)


def test_points_are_a_function_of_the_examples_key():
    found, asked = outputs(), batch()
    other = {**asked, "points_key": asked["points_key"] + 1}
    loss = jax.jit(OBJECTIVE.loss)
    assert loss(found, asked)["mask_loss"][0] == loss(found, asked)["mask_loss"][0]
    assert loss(found, asked)["mask_loss"][0] != loss(found, other)["mask_loss"][0]


def test_a_right_answer_costs_next_to_nothing():
    """Every output gives each object's mask and class: what is left is the blur of edges."""
    asked = batch((2, 1, 4))
    labels = jnp.where(asked["class_labels"] == IGNORED, CLASSES, asked["class_labels"])
    scores = 20 * jax.nn.one_hot(jnp.pad(labels, ((0, 0), (0, 1)), constant_values=CLASSES), CLASSES + 1)
    masks = 40.0 * jnp.pad(asked["mask_labels"], ((0, 0), (0, 1), (0, 0), (0, 0))) - 20.0
    objective = dataclasses.replace(OBJECTIVE, importance_sample_ratio=0.0, num_points=400)
    right = {"class_queries_logits": scores[:, ::-1], "masks_queries_logits": masks[:, ::-1]}
    loss = jax.jit(functools.partial(objective.loss))
    good, bad = loss(right, asked), loss({**right, "class_queries_logits": scores}, asked)
    assert good["class_loss"][0] < 1e-3 < bad["class_loss"][0]
    assert good["dice_loss"][0] / good["dice_loss"][1] < 1.5  # of 5; masks here are random pixels, all of them edges


@pytest.mark.parametrize(
    "settings",
    [dict(importance_sample_ratio=1.5), dict(num_points=0), dict(oversample_ratio=0.5), dict(mask_weight=-1.0)],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ObjectiveError):
        MaskPrediction(**settings)
