"""`image-segmentation`: the segments of pictures, as masks with labels."""

import dataclasses
import json
from typing import Any, Literal

import numpy as np
from PIL import Image

from inference import segments
from inference.readers.scene import SceneReader, Shown
from inference.segments import Segmentation
from inference.task import Output, Task, abstract
from models.config import ModelError, nearest
from models.model import Model


@dataclasses.dataclass(frozen=True)
class ImageSegmentation(Task):
    """For each picture its segments: the `label` and the `score` of each, and its `mask`, a grey picture of the picture's size,
    255 where the segment is and 0 elsewhere.

    Attributes:
        subtask: `panoptic` gives each pixel to one segment at most; `instance` gives things, some pixels of which may be
            another's; `semantic` gives the pixels of each class that there is, without a score.
        threshold: of the score; it does not matter for `semantic`.
        mask_threshold: probability of a pixel that counts as a segment's, for `panoptic`.
        overlap_mask_area_threshold: how much of its pixels a segment must have to itself, for `panoptic`.
        fuse: names of classes of which a picture has one segment, as the sky, for `panoptic`.
        through: masks are resized to a square of so many pixels first, as `transformers` resizes those of Mask2Former, so that
            what is thinner than a pixel of it is lost; 0: straight to the picture's size, as it resizes those of DETR, whose
            are resized so here, too.
    """

    name = "image-segmentation"
    reader = SceneReader
    fields = ()
    takes = ("pixel_values",)
    asks = (
        Output("class_queries_logits", "queries classes", also=("logits",)),
        Output("masks_queries_logits", "queries height width", also=("pred_masks",)),
    )
    example = "lacuna predict image-segmentation PICTURE --model {model}"

    subtask: Literal["panoptic", "instance", "semantic"] = "panoptic"
    threshold: float = 0.9
    mask_threshold: float = 0.5
    overlap_mask_area_threshold: float = 0.5
    fuse: tuple[str, ...] = ()
    through: int = 384

    def __post_init__(self) -> None:
        if self.subtask not in ("panoptic", "instance", "semantic"):
            raise ModelError(f"subtask={self.subtask!r}: expected panoptic, instance or semantic")
        for name in ("threshold", "mask_threshold", "overlap_mask_area_threshold"):
            if not 0 <= vars(self)[name] <= 1:
                raise ModelError(f"{name}={vars(self)[name]}: expected a number between 0 and 1")
        if self.through < 0:
            raise ModelError(f"through={self.through}: expected a number of pixels, or 0")

    def suited_to(self, model: Model) -> "ImageSegmentation":
        """Masks that are called `pred_masks` are not brought to a square."""
        shown = "pixel_values" in model.inputs and "pred_masks" in abstract(model, self.takes)[0]
        return dataclasses.replace(self, through=0) if shown else self

    def prepare(self, reader: SceneReader) -> None:
        labels = list(reader.model.config.labels)
        for name in self.fuse:
            if name not in labels:
                raise ModelError(f"fuse: the model has no class {name!r}: {nearest(name, labels)}")

    def segmentation(self, reader: SceneReader, read: Shown, outputs: dict[str, np.ndarray]) -> Segmentation:
        """The segment of each pixel. Of `semantic`, a segment is a class."""
        scores, masks = (outputs[ask.name].astype(np.float32) for ask in self.asks)
        through = (self.through, self.through) if self.through else None
        if self.subtask == "semantic":
            classes = segments.semantic(scores, masks, read.size, through)
            there = (segments.Segment(label, label, 0.0) for label in np.unique(classes).tolist())
            return Segmentation(classes, tuple(there))
        if self.subtask == "instance":
            return segments.instances(scores, masks, read.size, threshold=self.threshold, through=through)
        labels = reader.model.config.labels
        return segments.panoptic(
            scores,
            masks,
            read.size,
            threshold=self.threshold,
            mask_threshold=self.mask_threshold,
            overlap=self.overlap_mask_area_threshold,
            fused={number for number, name in enumerate(labels) if name in self.fuse},
            through=through,
        )

    def answer(
        self, reader: SceneReader, given: Any, read: Shown, outputs: dict[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        found = self.segmentation(reader, read, outputs)
        return [
            {
                "score": None if self.subtask == "semantic" else segment.score,
                "label": reader.model.config.labels[segment.label],
                "mask": Image.fromarray(((found.numbers == segment.number) * 255).astype(np.uint8)),
            }
            for segment in found.segments
        ]

    def printed(self, answer: list[dict[str, Any]]) -> str:
        """Scores and labels, and how many pixels each segment has."""
        rows = [
            {"score": one["score"], "label": one["label"], "pixels": int((np.asarray(one["mask"]) > 0).sum())}
            for one in answer
        ]
        return json.dumps(rows, ensure_ascii=False)
