"""Figures of predicted segments: of padded pictures, at the size that the source has them in, whatever the split into batches."""

from types import SimpleNamespace

import numpy as np
import pytest

from data.scenes.scene import Scene
from evaluation.metrics.segmentation import MeanIoU, PanopticQuality, painted

CLASSES, CANVAS = 3, (32, 64)
SIZES = [(40, 60), (64, 64)]
SHOWN = [(32, 48), (32, 32)]
"""What is seen of the canvas: pictures of these sizes, resized to a height of 32."""


def scene(number: int) -> Scene:
    """Class 0 on the left of a picture, on the right two objects of class 1, of which the lower is a crowd in the second."""
    height, width = SIZES[number]
    masks = np.zeros((3, height, width), np.uint8)
    masks[0, :, : width // 2] = masks[1, : height // 2, width // 2 :] = masks[2, height // 2 :, width // 2 :] = 1
    crowd = np.array([False, False, number == 1])
    pixels = np.zeros((height, width, 3), np.uint8)
    return Scene(pixels, np.array([0, 1, 1], np.int32), np.zeros((3, 4)), masks, crowd)


EXAMPLES = SimpleNamespace(
    items=lambda indices: indices, scene=lambda item, masks: scene(item), __len__=lambda self: len(SIZES)
)


def said(wrong: bool = False) -> dict[str, np.ndarray]:
    """The right masks, on the canvas at a quarter of its resolution, and noise in the padding; classes likewise, or all 2."""
    state = dict(
        index=np.arange(2),
        canvas=np.zeros((2, *CANVAS), np.int32),
        scores=np.full((2, 4, CLASSES + 1), -9.0, np.float32),
        masks=np.random.default_rng(0).normal(size=(2, 4, 8, 16)).astype(np.float32) * 20,
    )
    for number, (high, wide) in enumerate(SHOWN):
        state["canvas"][number, :high, :wide] = 1
        rows, columns = high // 4, wide // 4
        state["masks"][number, :, :rows, :columns] = -20
        for query, (below, right) in enumerate([(slice(0, rows), slice(0, columns // 2)), *halves(rows, columns)]):
            state["masks"][number, query, below, right] = 20
        state["scores"][number, np.arange(4), [2, 2, 2, 3] if wrong else [0, 1, 1, 3]] = 9
    return state


def halves(rows: int, columns: int) -> list[tuple[slice, slice]]:
    right = slice(columns // 2, columns)
    return [(slice(0, rows // 2), right), (slice(rows // 2, rows), right)]


@pytest.mark.parametrize("metric", [PanopticQuality(), MeanIoU()], ids=lambda x: type(x).__name__)
def test_right_masks_are_right_but_for_edges(metric):
    state = metric.condensed(said(), EXAMPLES)
    assert state["table"].shape[:2] == (2, CLASSES)
    figures = metric.compute(state)
    assert set(figures) == set(metric.figures) and all(93 < value <= 100 for value in figures.values()), figures
    assert all(value == 0 for value in metric.compute(metric.condensed(said(wrong=True), EXAMPLES)).values())


def test_pictures_are_condensed_alone_as_together():
    metric, whole = PanopticQuality(), said()
    parts = [metric.condensed({name: x[n : n + 1] for name, x in whole.items()}, EXAMPLES)["table"] for n in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), metric.condensed(whole, EXAMPLES)["table"])


def test_what_is_found_in_a_crowd_does_not_count():
    """Of the second picture one object of class 1 is a crowd: nothing is missed there, and nothing wrong."""
    table = PanopticQuality().condensed(said(), EXAMPLES)["table"]
    assert table[0, 1, 1:].tolist() == [2, 0, 0] and table[1, 1, 1:].tolist() == [1, 0, 0]


def test_masks_are_numbered_as_they_come():
    masks = np.array([[[1, 1], [0, 0]], [[0, 1], [0, 0]]], np.uint8)
    np.testing.assert_array_equal(painted(masks, (2, 2)), [[1, 2], [0, 0]])
