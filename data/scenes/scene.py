"""A scene: a picture with its annotation."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

from data.images.pictures import Pixels

Masks = UInt8[np.ndarray, "objects height width"]
Boxes = Float64[np.ndarray, "objects 4"]
"""(left, top, right, bottom) in pixels; the right and the bottom edge lie behind the last pixel."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A picture with the classes, boxes and masks of its objects, or the depth of its pixels.

    Attributes:
        picture: upright, RGB.
        labels: class of each object.
        boxes: box of each object.
        masks: mask of each object, 1 on its visible pixels; `None` if unknown or not read.
        crowd: whether an annotation stands for several objects. Crowds are not trained on, and in evaluation predictions
            there do not count.
        areas: area of each object in pixels, from the annotation; `None` if unknown.
        depth: metres, 0 where it was not measured; `None` if unknown or not read.
    """

    picture: Pixels
    labels: Int32[np.ndarray, " objects"]
    boxes: Boxes
    masks: Masks | None = None
    crowd: Bool[np.ndarray, " objects"] | None = None
    areas: Float64[np.ndarray, " objects"] | None = None
    depth: Float32[np.ndarray, "height width"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.picture.shape[:2]

    def chosen(self, kept: np.ndarray) -> "Scene":
        """The same with some of its objects."""
        some = {
            name: None if vars(self)[name] is None else vars(self)[name][kept] for name in ("masks", "crowd", "areas")
        }
        return dataclasses.replace(self, labels=self.labels[kept], boxes=self.boxes[kept], **some)

    def countable(self) -> "Scene":
        """The same without crowds."""
        return self if self.crowd is None or not self.crowd.any() else self.chosen(~self.crowd)


def boxes_of(masks: Masks) -> Boxes:
    """The bounding boxes of masks, zeros for an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def masks_of(segments: Int32[np.ndarray, "height width"], ids: np.ndarray) -> Masks:
    """A mask for each id of a segment map."""
    return (segments[None] == np.asarray(ids)[:, None, None]).astype(np.uint8)


def centred(boxes: Boxes, size: tuple[int, int]) -> Float32[np.ndarray, "objects 4"]:
    """Boxes as (centre x, centre y, width, height), in fractions of a canvas of this (height, width)."""
    left, top, right, bottom = boxes.T
    height, width = size
    parts = (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
    return np.stack(parts, axis=1).astype(np.float32)
