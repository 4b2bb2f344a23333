"""Average precision of boxes and masks equals pycocotools' own, over whole sets of pictures and over resampled ones."""

import contextlib
import io

import jax.numpy as jnp
import numpy as np
import pytest
from pycocotools import mask as library
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.scenes.scene import Scene
from evaluation.metrics.coco import BoxPrecision, Found, There, average_precisions, matches, stacked

CLASSES, SIZE = 4, (160, 200)


def drawn(seed: int, pictures: int = 12) -> list[tuple[There, Found]]:
    """Things of all sizes, some of them crowds; found near, elsewhere, twice, as another class, with equal scores."""
    draw, cases = np.random.default_rng(seed), []
    for _ in range(pictures):
        count = int(draw.integers(0, 7))
        places, edges = draw.uniform(0, 100, (count, 2)), draw.uniform(4, 100, (count, 2))
        boxes, labels = np.concatenate([places, places + edges], axis=1), draw.integers(0, CLASSES, count)
        boxes = np.minimum(boxes, np.tile(SIZE[::-1], 2))
        masks = np.zeros((count, *SIZE), bool)
        for mask, box in zip(masks, boxes.round().astype(int), strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = True
        there = There(labels, boxes, np.prod(edges, axis=1) * 0.8, draw.random(count) < 0.2, masks)
        which = draw.integers(0, max(count, 1), int(draw.integers(0, 9))) if count else np.zeros(0, int)
        moved = boxes[which] + draw.normal(0, 3, (len(which), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guessed = np.where(draw.random(len(which)) < 0.8, labels[which], draw.integers(0, CLASSES, len(which)))
        shifted = np.array([np.roll(masks[one], int(draw.integers(-4, 5)), axis=1) for one in which])
        found_masks = shifted.reshape(-1, *SIZE).astype(bool)
        cases.append((there, Found(guessed, draw.integers(1, 10, len(which)) / 10, moved, found_masks)))
    return cases


def official(cases: list[tuple[There, Found]], kind: str) -> list[float]:
    """The first six figures of pycocotools."""
    right, guessed = COCO(), COCO()
    images = [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(len(cases))]
    base = {"images": images, "categories": [{"id": label} for label in range(CLASSES)]}
    told: list[list[dict]] = [[], []]
    for image, case in enumerate(cases):
        for side, things in enumerate(case):
            for number, box in enumerate(things.boxes.tolist()):
                one = {"id": len(told[side]) + 1, "image_id": image, "category_id": int(things.labels[number])}
                one |= {"bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]], "iscrowd": 0}
                one["segmentation"] = library.encode(np.asfortranarray(things.masks[number].astype(np.uint8)))
                if side:
                    area = library.area(one["segmentation"]) if kind == "segm" else one["bbox"][2] * one["bbox"][3]
                    one |= {"score": float(things.scores[number]), "area": float(area)}
                else:
                    one |= {"area": float(things.areas[number]), "iscrowd": int(things.crowd[number])}
                told[side].append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        for coco, annotations in zip((right, guessed), told, strict=True):
            coco.dataset = {**base, "annotations": annotations}
            coco.createIndex()
        evaluation = COCOeval(right, guessed, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6].tolist()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_pycocotools(kind: str, seed: int) -> None:
    cases = drawn(seed)
    plain = [
        (There(there.labels, there.boxes, there.areas, there.crowd), Found(found.labels, found.scores, found.boxes))
        for there, found in cases
    ]
    rows = stacked([matches(*case) for case in (cases if kind == "segm" else plain)])
    ours = list(average_precisions(rows).values())
    assert 0.05 < ours[0] < 0.95
    np.testing.assert_allclose(ours, official(cases, kind), atol=1e-12)
    again = np.random.default_rng(seed).integers(0, len(cases), len(cases))
    resampled = average_precisions({name: array[again] for name, array in rows.items()})
    np.testing.assert_allclose(list(resampled.values()), official([cases[n] for n in again], kind), atol=1e-12)


def test_nothing_found_is_0_and_nothing_there_is_said() -> None:
    there = There(np.array([1]), np.array([[0.0, 0, 50, 50]]), np.array([2_500.0]), np.array([False]))
    nothing = Found(np.zeros(0, int), np.zeros(0), np.zeros((0, 4)))
    figures = average_precisions(stacked([matches(there, nothing)]))
    assert figures["ap"] == figures["ap50"] == figures["ap_medium"] == 0 and figures["ap_small"] == -1
    empty = There(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
    assert set(average_precisions(stacked([matches(empty, nothing)])).values()) == {-1.0}


class Examples:
    """Two pictures of different sizes, on one canvas."""

    scenes = (
        Scene(np.zeros((40, 80, 3), np.uint8), np.array([2], np.int32), np.array([[20.0, 10, 60, 30]])),
        Scene(
            np.zeros((80, 80, 3), np.uint8), np.array([0, 1], np.int32), np.array([[0.0, 0, 40, 40], [40, 40, 80, 80]])
        ),
    )

    def scene(self, item: int) -> Scene:
        return self.scenes[item]


def test_boxes_of_a_batch_are_read_back_from_the_canvas() -> None:
    mask = np.zeros((2, 64, 64), np.int32)
    mask[0, :32], mask[1] = 1, 1  # the first takes the upper half of the canvas
    boxes = np.array([[[0.5, 0.25, 0.5, 0.25], [0.9, 0.9, 0.1, 0.1]], [[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]]])
    logits = np.full((2, 2, CLASSES + 1), -5.0)
    logits[0, 0, 2] = logits[1, 0, 0] = logits[1, 1, 1] = 5
    logits[0, 1, 4] = 9  # the other query finds nothing, and counts as what is likeliest beside that, with a low score
    outputs = {"logits": jnp.asarray(logits), "pred_boxes": jnp.asarray(boxes)}
    metric = BoxPrecision()
    state = metric.update(outputs, {"pixel_mask": jnp.asarray(mask), "index": jnp.arange(2)})
    rows = metric.condensed({name: np.asarray(x) for name, x in state.items()}, Examples())
    figures = metric.compute(rows)
    assert set(figures) == set(metric.figures) and figures["box_ap"] == pytest.approx(1.0)
    shifted = {**state, "height": np.ones(2)}  # as if nothing were padded
    wrong = metric.compute(metric.condensed({name: np.asarray(x) for name, x in shifted.items()}, Examples()))
    assert wrong["box_ap"] < 0.8
