"""How good the segments are that queries predict: panoptic quality, and the mean intersection over union of classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Int

from evaluation.metric import Metric, State
from evaluation.metrics import mean_iou, panoptic_quality
from inference import segments
from objectives.losses import IGNORED

SCORES, MASKS = "class_queries_logits", "masks_queries_logits"


@dataclasses.dataclass(frozen=True)
class OfSegments(Metric):
    """Base of the figures of segments. They are compared at the size of the picture as the source has it, what the model says of
    the padding being left out; in the way of `inference.segments`, but straight from the model's resolution to the picture's."""

    asks: ClassVar[tuple[str, ...]] = (SCORES, MASKS)
    reads: ClassVar[tuple[str, ...]] = ("index", "pixel_mask")

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        """What is said of each picture."""
        return {
            "index": batch["index"],
            "canvas": batch["pixel_mask"],
            "scores": outputs[SCORES].astype(np.float32),
            "masks": outputs[MASKS].astype(np.float32),
        }

    def condensed(self, state: State, examples: Any) -> State:
        """A table of each picture, of a row for each class."""
        tables = []
        for row, index in enumerate(state["index"]):
            (item,) = examples.items(np.array([index], np.int64))
            scene = examples.scene(int(item), masks=True)
            canvas = np.asarray(state["canvas"][row]) > 0
            high, wide = int(canvas[:, 0].sum()), int(canvas[0].sum())
            masks = segments.resized(np.asarray(state["masks"][row]), canvas.shape)[:, :high, :wide]
            tables.append(self.table(scene, np.asarray(state["scores"][row]), masks))
        return self.joined(tables)

    def joined(self, tables: list[Any]) -> State:
        """A row for each picture."""
        return {"table": np.stack(tables)}

    def table(self, scene: Any, scores: segments.Scores, masks: segments.Masks) -> Any:
        """Of one picture, (classes, numbers)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PanopticQuality(OfSegments):
    """`pq`, `sq` and `rq` in percent (`evaluation.metrics.panoptic_quality`), means over the classes.

    Attributes:
        stuff: labels of what has no instances: segments of each are one.
        threshold, mask_threshold, overlap: see `inference.segments.panoptic`; as the released code has them.
    """

    figures: ClassVar[tuple[str, ...]] = ("pq", "sq", "rq")

    stuff: tuple[int, ...] = ()
    threshold: float = 0.8
    mask_threshold: float = 0.5
    overlap: float = 0.8

    def table(self, scene: Any, scores: segments.Scores, masks: segments.Masks) -> np.ndarray:
        found = segments.panoptic(
            scores,
            masks,
            scene.size,
            threshold=self.threshold,
            mask_threshold=self.mask_threshold,
            overlap=self.overlap,
            fused=self.stuff,
            through=None,
        )
        there = {number: int(label) for number, label in enumerate(scene.labels, start=1)}
        right = painted(scene.masks, scene.size)
        crowd = () if scene.crowd is None else (np.flatnonzero(scene.crowd) + 1).tolist()
        guessed = np.maximum(found.numbers, panoptic_quality.VOID)
        labels = {segment.number: segment.label for segment in found.segments}
        return panoptic_quality.counts(right, there, guessed, labels, scores.shape[1] - 1, crowd)

    def compute(self, state: State) -> dict[str, float]:
        table = np.asarray(state["table"], np.float64).sum(axis=0)
        return panoptic_quality.qualities(table)


@dataclasses.dataclass(frozen=True)
class MeanIoU(OfSegments):
    """`miou` and `pixel_accuracy` in percent (`evaluation.metrics.mean_iou`); pixels of no class do not count."""

    figures: ClassVar[tuple[str, ...]] = ("miou", "pixel_accuracy")

    def table(self, scene: Any, scores: segments.Scores, masks: segments.Masks) -> np.ndarray:
        numbers = painted(scene.masks, scene.size)
        right = np.concatenate([[IGNORED], scene.labels])[numbers]
        guessed = segments.semantic(scores, masks, scene.size, None)
        return mean_iou.areas(right, guessed, scores.shape[1] - 1)

    def compute(self, state: State) -> dict[str, float]:
        return mean_iou.intersections_over_unions(np.asarray(state["table"], np.float64).sum(axis=0))


def painted(masks: np.ndarray, size: tuple[int, int]) -> Int[np.ndarray, "height width"]:
    """The number of the mask that each pixel is in, from 1 on, of several the last; 0 where it is in none."""
    numbers = np.zeros(size, np.int32)
    for number, mask in enumerate(masks, start=1):
        numbers[mask > 0] = number
    return numbers
