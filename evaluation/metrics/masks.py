"""Average precision of the instances that queries predict, as COCO measures it (`evaluation.metrics.coco`)."""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from data.scenes.scene import boxes_of
from evaluation.metric import State
from evaluation.metrics import coco
from evaluation.metrics.segmentation import OfSegments
from inference import segments


@dataclasses.dataclass(frozen=True)
class MaskPrecision(OfSegments):
    """Average precision of masks: the best pairs of a query and a class, as many as there are queries, `MOST` at most, each with
    the pixels where its mask is more likely than not; the score is the class's, times the mean of these pixels' (Cheng et al.,
    2021, arXiv 2112.01527).

    Attributes:
        compare: masks, or the boxes around them.
        stuff: labels that are no instances: neither what is there of them nor what is found counts.
    """

    figures: ClassVar[tuple[str, ...]] = tuple(f"mask_{name}" for name in coco.FIGURES)
    libraries: ClassVar[tuple[str, ...]] = ("pycocotools",)

    compare: Literal["masks", "boxes"] = "masks"
    stuff: tuple[int, ...] = ()

    def table(self, scene: Any, scores: segments.Scores, masks: segments.Masks) -> coco.Rows:
        there = coco.There.of(scene.chosen(~np.isin(scene.labels, self.stuff)))
        found = best(scores, segments.resized(masks, scene.size), self.stuff)
        if self.compare == "boxes":
            there, found = dataclasses.replace(there, masks=None), dataclasses.replace(found, masks=None)
        return coco.matches(there, found)

    def joined(self, tables: list[coco.Rows]) -> State:
        return coco.stacked(tables)

    def compute(self, state: State) -> dict[str, float]:
        return {f"mask_{name}": value for name, value in coco.average_precisions(state).items()}


def best(scores: segments.Scores, logits: segments.Masks, stuff: tuple[int, ...] = ()) -> coco.Found:
    """The likeliest instances of a picture.

    Args:
        logits: of masks, at the picture's size.
    """
    queries, classes = scores.shape[0], scores.shape[1] - 1
    probable = segments.softmax(scores)[:, :-1]
    probable[:, list(stuff)] = 0
    pairs = np.argsort(-probable.reshape(-1), kind="stable")[: min(queries, coco.MOST)]
    pairs = pairs[probable.reshape(-1)[pairs] > 0]
    masks = logits[pairs // classes] > 0
    likely = np.where(masks, segments.sigmoid(logits[pairs // classes]), 0).sum(axis=(1, 2))
    means = likely / np.maximum(masks.sum(axis=(1, 2)), 1)
    return coco.Found(pairs % classes, probable.reshape(-1)[pairs] * means, boxes_of(masks), masks)
