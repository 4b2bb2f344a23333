"""From a picture of any shape to `pixel_values` and `pixel_mask`, as published processors of DETR, Mask2Former and GLPN do."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from data.errors import DataError
from data.images.pictures import Pixels, Source, decoded, opened
from data.images.processor import PictureProcessor

DETR, MASK2FORMER, GLPN = "DetrImageProcessor", "Mask2FormerImageProcessor", "GLPNImageProcessor"

PROCESSORS = {"detr": DETR, "mask2former": MASK2FORMER, "maskformer": MASK2FORMER, "glpn": GLPN}
"""The processor of a `model_type`."""

DEFAULTS: dict[str, dict[str, Any]] = {
    DETR: {},
    MASK2FORMER: {"size_divisor": 32},
    GLPN: {"size_divisor": 32, "do_normalize": False},
}
"""Defaults of the fields, by class."""


@dataclasses.dataclass(frozen=True)
class SceneProcessor(PictureProcessor):
    """How pictures of any shape become `pixel_values`.

    Attributes:
        image_processor_type: `DetrImageProcessor` resizes so that the shorter edge is `shortest` and the longer one at most
            `longest`; `Mask2FormerImageProcessor` stretches that up to multiples of `size_divisor`; `GLPNImageProcessor` takes
            pictures as they are, both edges down to a multiple.
        shortest, longest: edges.
        exact: (height, width) of all pictures, instead of these two.
        size_divisor: both edges become multiples of it.
    """

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = DEFAULTS
    by_model_type: ClassVar[Mapping[str, str]] = PROCESSORS

    image_processor_type: str = DETR
    shortest: int = 800
    longest: int = 1333
    exact: tuple[int, int] | None = None
    size_divisor: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"shortest": 1, "longest": self.shortest, "size_divisor": 1}.items():
            if vars(self)[name] < least:
                raise DataError(f"{name}={vars(self)[name]!r}: expected a whole number of at least {least}")

    @classmethod
    def from_json(cls, published: Mapping[str, Any], model_type: str = "") -> "SceneProcessor":
        """From the contents of a published file, old ones included; keys that mean nothing here are ignored."""
        settings = cls.settings(published, model_type)
        settings["size_divisor"] = max(1, int(settings.get("size_divisor", 1)))
        return cls(**settings, **_edges(published, settings["image_processor_type"]))

    def to_json(self) -> dict[str, Any]:
        """The contents of a published file."""
        fields: dict[str, Any] = {"image_processor_type": self.image_processor_type, "do_resize": self.do_resize}
        if self.image_processor_type != GLPN:
            size = {"shortest_edge": self.shortest, "longest_edge": self.longest}
            if self.exact is not None:
                size = {"height": self.exact[0], "width": self.exact[1]}
            fields |= {"size": size, "do_pad": True}
        if self.image_processor_type != DETR:
            fields["size_divisor"] = self.size_divisor
        if self.image_processor_type == MASK2FORMER:
            fields |= {"ignore_index": 255, "do_reduce_labels": False}
        if self.image_processor_type == DETR:
            fields["format"] = "coco_detection"
        for name in ("resample", "do_rescale", "rescale_factor", "do_normalize"):
            fields[name] = vars(self)[name]
        return {**fields, "image_mean": list(self.image_mean), "image_std": list(self.image_std)}

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which a picture of `size` is resized.

        Raises:
            DataError: an edge is smaller than the divisor.
        """
        if not self.do_resize:
            return size
        divisor = self.size_divisor
        if self.image_processor_type == GLPN:
            if min(size) < divisor:
                raise DataError(f"a picture of {size[0]} × {size[1]} pixels: both edges must be {divisor} at least")
            return size[0] // divisor * divisor, size[1] // divisor * divisor
        height, width = self.exact or with_edges(size, self.shortest, self.longest)
        return math.ceil(height / divisor) * divisor, math.ceil(width / divisor) * divisor

    def pixels(self, source: Source, name: str = "") -> Pixels:
        """A picture decoded and resized, before it is padded and rescaled.

        Raises:
            DataError: it is no picture, or a broken one.
        """
        with opened(source, name) as image:
            image = decoded(image)
            return np.asarray(resize(image, self.resized((image.height, image.width)), self.resample))

    def values(self, pixels: Pixels) -> np.ndarray:
        """Pixels rescaled and normalised, float32."""
        values = pixels.astype(np.float32) * np.float32(self.rescale_factor if self.do_rescale else 1)
        if self.do_normalize:
            values = (values - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return values

    def __call__(self, source: Source, name: str = "") -> np.ndarray:
        """`pixel_values` (height, width, 3) of a picture, float32. Raises `DataError` as `pixels`."""
        return self.values(self.pixels(source, name))

    def batch(self, pictures: Sequence[Pixels], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """`pixel_values` (pictures, height, width, 3), exactly 0 in the padding below and on the right, and `pixel_mask`.

        Args:
            canvas: (height, width); that of the highest and the widest picture where `None`.
        """
        height, width = canvas or np.max([picture.shape[:2] for picture in pictures], axis=0)
        values = np.zeros((len(pictures), height, width, 3), np.float32)
        mask = np.zeros((len(pictures), height, width), np.int32)
        for row, picture in enumerate(pictures):
            high, wide = picture.shape[:2]
            values[row, :high, :wide], mask[row, :high, :wide] = self.values(picture), 1
        return {"pixel_values": values, "pixel_mask": mask}


def _edges(published: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The size that a file names: an object, or a number with `max_size` beside it, as old ones have."""
    size = published.get("size")
    if size is None or kind == GLPN:
        return {}
    if not isinstance(size, Mapping):
        return {"shortest": int(size), "longest": max(int(size), int(published.get("max_size") or 1333))}
    if {"height", "width"} <= set(size):
        return {"exact": (size["height"], size["width"])}
    if "shortest_edge" in size:
        shortest = size["shortest_edge"]
        return {"shortest": shortest, "longest": max(shortest, size.get("longest_edge") or 1333)}
    raise DataError(f"size={dict(size)!r}: expected shortest_edge and longest_edge, or height and width")


def with_edges(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """(height, width) with the shorter edge `shortest`, or less so that the longer one is at most `longest`; both are rounded
    as published (500 × 333 → 1201 × 800, 800 × 1334 → 799 × 1333)."""
    low, high = min(size), max(size)
    exact = float(shortest)
    if high / low * shortest > longest:
        exact = longest * low / high
        shortest = round(exact)
    if low == shortest:
        return size
    other = int(exact * high / low)
    return (shortest, other) if size[0] <= size[1] else (other, shortest)


def resize(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    """The picture at (height, width)."""
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), resample=resample)
