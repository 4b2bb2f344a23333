"""Set prediction held against its equations written the slow, obvious way, and against every way to split a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from objectives import Objective, ObjectiveError
from objectives.images.set_prediction import SetPrediction, corners, generalized_iou, resized_masks
from objectives.losses import IGNORED

BATCH, LAYERS, QUERIES, CLASSES, OBJECTS = 4, 3, 6, 5, 8
COUNTS = (3, 0, 8, 1)
"""Objects of the pictures: the third has more than there are queries."""


def examples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.full((BATCH, OBJECTS), IGNORED, np.int32)
    for row, count in enumerate(COUNTS):
        labels[row, :count] = rng.integers(0, CLASSES, count)
    there = (labels != IGNORED)[..., None]
    boxes = np.concatenate([rng.random((BATCH, OBJECTS, 2)), rng.random((BATCH, OBJECTS, 2)) * 0.4 + 0.1], -1) * there
    masks = (rng.random((BATCH, OBJECTS, 6, 10)) < 0.4) * there[..., None]
    return {"class_labels": labels, "boxes": boxes.astype(np.float32), "mask_labels": masks.astype(np.uint8)}


def outputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    logits, boxes = rng.normal(size=(BATCH, LAYERS, QUERIES, CLASSES + 1)), rng.random((BATCH, LAYERS, QUERIES, 4))
    found = {
        **{"logits": logits[:, -1], "pred_boxes": boxes[:, -1]},
        **{"auxiliary_logits": logits[:, :-1], "auxiliary_boxes": boxes[:, :-1]},
        "pred_masks": rng.normal(size=(BATCH, QUERIES, 3, 5)),
    }
    return {name: x.astype(np.float32) for name, x in found.items()}


def slow_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes (centre x, centre y, width, height), side by side."""

    def overlap(axis: int) -> tuple[float, float]:
        (a, b), (c, d) = ((x[axis] - x[axis + 2] / 2, x[axis] + x[axis + 2] / 2) for x in (one, other))
        return max(0.0, min(b, d) - max(a, c)), max(b, d) - min(a, c)

    (width, wide), (height, high) = overlap(0), overlap(1)
    union = one[2] * one[3] + other[2] * other[3] - width * height
    return width * height / union - (wide * high - union) / (wide * high)


def slow_layer(logits, boxes, batch) -> tuple[dict[str, float], list[dict[int, int]]]:
    """The losses of a layer, picture by picture and pair by pair, and {object: query} of each picture."""
    sums, weight, pairs = dict.fromkeys(("class_loss", "box_loss", "giou_loss"), 0.0), 0.0, []
    objects = max(1, (batch["class_labels"] != IGNORED).sum())
    for row in range(BATCH):
        valid = np.flatnonzero(batch["class_labels"][row] != IGNORED)
        chance = np.exp(logits[row]) / np.exp(logits[row]).sum(-1, keepdims=True)
        cost = np.array(
            [
                [
                    -chance[query, batch["class_labels"][row, o]]
                    + 5 * np.abs(boxes[row, query] - batch["boxes"][row, o]).sum()
                    - 2 * slow_iou(boxes[row, query], batch["boxes"][row, o])
                    for o in valid
                ]
                for query in range(QUERIES)
            ]
        ).reshape(QUERIES, len(valid))
        matched = {int(valid[column]): int(query) for query, column in zip(*linear_sum_assignment(cost), strict=True)}
        pairs.append(matched)
        classes = np.full(QUERIES, CLASSES)
        for o, query in matched.items():
            classes[query] = batch["class_labels"][row, o]
            sums["box_loss"] += 5 * np.abs(boxes[row, query] - batch["boxes"][row, o]).sum() / objects
            sums["giou_loss"] += 2 * (1 - slow_iou(boxes[row, query], batch["boxes"][row, o])) / objects
        weights = np.where(classes == CLASSES, 0.1, 1.0)
        sums["class_loss"] += (weights * -np.log(chance[np.arange(QUERIES), classes])).sum()
        weight += weights.sum()
    return {**sums, "class_loss": sums["class_loss"] / weight}, pairs


def test_losses_are_their_equations():
    batch, found, objective = examples(), outputs(), SetPrediction()
    losses = objective.losses(jax.jit(objective.loss)(found, batch))
    expected, _ = slow_layer(found["logits"], found["pred_boxes"], batch)
    for number in range(LAYERS - 1):
        one, _ = slow_layer(found["auxiliary_logits"][:, number], found["auxiliary_boxes"][:, number], batch)
        for name, value in one.items():
            expected[f"auxiliary_{name}"] = expected.get(f"auxiliary_{name}", 0.0) + value
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(losses[name], value, rtol=1e-5, err_msg=name)
    last = jax.eval_shape(SetPrediction(auxiliary=False).loss, found, batch)
    assert set(last) == {"class_loss", "box_loss", "giou_loss"}


def test_masks_are_asked_of_matched_queries():
    batch, found, objective = examples(), outputs(), SetPrediction(masks=True, auxiliary=False)
    losses = objective.losses(jax.jit(objective.loss)(found, batch))
    _, pairs = slow_layer(found["logits"], found["pred_boxes"], batch)
    large = np.asarray(resized_masks(jnp.asarray(found["pred_masks"]), 6, 10), np.float64)
    focal = dice = 0.0
    for row, matched in enumerate(pairs):
        for o, query in matched.items():
            chance, label = 1 / (1 + np.exp(-large[row, query])), batch["mask_labels"][row, o]
            right = np.where(label, chance, 1 - chance)
            focal += (np.where(label, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)).mean()
            dice += 1 - (2 * (chance * label).sum() + 1) / (chance.sum() + label.sum() + 1)
    np.testing.assert_allclose(losses["mask_loss"], focal / sum(COUNTS), rtol=1e-5)
    np.testing.assert_allclose(losses["dice_loss"], dice / sum(COUNTS), rtol=1e-5)
    assert objective.reads == ("class_labels", "boxes", "mask_labels") and objective.asks[-1] == ("pred_masks",)


def test_padding_of_objects_changes_nothing():
    batch, found, objective = examples(), outputs(), SetPrediction(masks=True)
    pad = {name: ((0, 0), (0, 5), *((0, 0),) * (x.ndim - 2)) for name, x in batch.items()}
    wide = {
        name: np.pad(x, pad[name], constant_values=IGNORED if name == "class_labels" else 0)
        for name, x in batch.items()
    }
    for one, other in zip(*(jax.tree.leaves(jax.jit(objective.loss)(found, x)) for x in (batch, wide)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("parts", [[[0], [1], [2], [3]], [[0, 1], [2, 3]], [[3, 0, 2], [1]]])
def test_sums_and_gradients_of_parts_add_up(parts):
    """Parts have other numbers of objects: none, one, or more than there are queries."""
    batch, found, objective = examples(), outputs(), SetPrediction(masks=True)

    @jax.jit
    def run(found, batch, totals):
        def sums(found):
            return objective.sums(found, batch)

        amounts, pull = jax.vjp(sums, found)
        slopes = jax.grad(lambda x: sum(objective.losses(x).values()))(amounts if totals is None else totals)
        return amounts, pull(slopes)[0]

    whole, gradients = run(found, batch, None)
    rows = [{name: x[part] for name, x in tree.items()} for part in parts for tree in (found, batch)]
    pieces = [run(its, answers, whole) for its, answers in zip(rows[::2], rows[1::2], strict=True)]
    added = jax.tree.map(lambda *xs: sum(xs), *(amounts for amounts, _ in pieces))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), added, whole)
    for part, (_, gradient) in zip(parts, pieces, strict=True):
        for name, x in gradient.items():
            np.testing.assert_allclose(x, gradients[name][np.array(part)], rtol=1e-4, atol=1e-7, err_msg=name)


def test_metrics_count_what_is_right():
    batch, found = examples(), outputs()
    _, pairs = slow_layer(found["logits"], found["pred_boxes"], batch)
    best = found["logits"].argmax(-1)
    right = [best[row, query] == batch["class_labels"][row, o] for row, m in enumerate(pairs) for o, query in m.items()]
    wrong = np.abs((best != CLASSES).sum(1) - np.array(COUNTS)).sum()
    metrics = jax.jit(SetPrediction().metrics)(found, batch)
    assert tuple(map(float, metrics["class_accuracy"])) == (sum(right), len(right))
    assert tuple(map(float, metrics["cardinality_error"])) == (wrong, BATCH)


def test_generalized_iou_of_boxes():
    boxes = jnp.asarray(
        [
            [0.5, 0.5, 1.0, 1.0],
            [0.25, 0.25, 0.5, 0.5],
            [0.75, 0.75, 0.5, 0.5],
            [0.3, 0.4, 0.0, 0.0],
            [0.5, 0.5, 0.2, 0.0],
        ]
    )
    table = generalized_iou(corners(boxes[:, None]), corners(boxes[None]))
    expected = [[1, 0.25, 0.25], [0.25, 1, -0.5], [0.25, -0.5, 1]]
    np.testing.assert_allclose(table[:3, :3], expected, atol=1e-6)
    assert np.isfinite(table).all() and float(table[3, 3]) == 0.0 == float(table[4, 4])
    slopes = jax.grad(lambda x: generalized_iou(corners(x[:, None]), corners(x[None])).sum())(boxes)
    assert np.isfinite(slopes).all()


def test_masks_are_resized_as_torch_does():
    logits = jnp.asarray([[[[0.0, 4.0]]]])
    np.testing.assert_allclose(resized_masks(logits, 1, 4)[0, 0, 0], [0, 1, 3, 4], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"box_cost": -1.0}, "box_cost=-1.0: expected 0 or more"),
        ({"no_object_weight": 0.0}, "would learn nothing"),
        ({"class_cost": 0.0, "box_cost": 0.0, "giou_cost": 0.0}, "are all 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ObjectiveError, match=said):
        SetPrediction(**settings)
    assert isinstance(SetPrediction(), Objective)
