"""A picture with what is to be found in it."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

from data.images.pictures import Pixels

Masks = UInt8[np.ndarray, "objects height width"]
Boxes = Float64[np.ndarray, "objects 4"]
"""(left, top, right, bottom) in pixels; the right and the bottom edge lie behind the last pixel."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A picture, and of its objects class, box and mask, or of its pixels the depth.

    Attributes:
        picture: upright, RGB.
        labels: of the objects; no object, no row.
        boxes: of the objects.
        masks: of the objects, 1 where one is seen; `None` where nobody knows or asks.
        crowd: objects that are several, marked as one: they are not trained on, and in evaluation what is found there does not
            count.
        areas: of the objects, in pixels, as who annotated them has them; `None` where nobody knows.
        depth: metres, 0 where nothing was measured; `None` where nobody knows or asks.
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
    """The boxes around masks, zeros around an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def masks_of(segments: Int32[np.ndarray, "height width"], ids: np.ndarray) -> Masks:
    """A mask for each id of a map of segments."""
    return (segments[None] == np.asarray(ids)[:, None, None]).astype(np.uint8)


def centred(boxes: Boxes, size: tuple[int, int]) -> Float32[np.ndarray, "objects 4"]:
    """Boxes as (centre x, centre y, width, height), in parts of a canvas of this (height, width)."""
    left, top, right, bottom = boxes.T
    height, width = size
    parts = (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
    return np.stack(parts, axis=1).astype(np.float32)
