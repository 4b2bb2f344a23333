"""Scenes of handwritten digits on parts of photographs; which pixels show which digit is known exactly.

Both come with scikit-learn: 1,797 digits of 8 × 8 pixels (Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI,
1998), and two photographs.
"""

import dataclasses
import functools
import importlib.util

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from data.errors import DataError

HEIGHTS = WIDTHS = (96, 112, 128)
"""Edges of the scenes."""

SIDES = (20, 56)
"""Edges of a digit's square, from the smallest to the largest."""

MOST = 5
"""Digits of a scene, at most; there is one at least."""

TRIES = 20
"""Places that are tried for a digit before it is left out."""

HELD_OUT_DIGITS, HELD_OUT_WIDTH = 397, 0.25
"""What scenes to train on never show: the last digits, and the right part of each photograph."""

INK = 0.5
"""Opacity from which on a pixel shows the digit."""


@dataclasses.dataclass(frozen=True)
class Material:
    """What scenes of one side are made of."""

    digits: Float32[np.ndarray, "digits 8 8"]
    labels: Int32[np.ndarray, " digits"]
    photographs: tuple[UInt8[np.ndarray, "height width 3"], ...]


@dataclasses.dataclass(frozen=True)
class Composed:
    """A scene.

    Attributes:
        picture: RGB.
        segments: number of the digit that a pixel shows, from 1 on; 0 where it shows none.
        labels: of the digits, in the order of their numbers.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    segments: UInt8[np.ndarray, "height width"]
    labels: Int32[np.ndarray, " digits"]


@functools.cache
def material(held_out: bool) -> Material:
    """What scenes to train on, or held out, are made of. Raises `DataError` where scikit-learn is missing."""
    if importlib.util.find_spec("sklearn") is None:
        raise DataError("digit_scenes are made of what scikit-learn brings, which is missing: install the `demo` extra")
    from sklearn.datasets import load_digits, load_sample_images

    digits, photographs = load_digits(), load_sample_images().images
    some = slice(-HELD_OUT_DIGITS, None) if held_out else slice(None, -HELD_OUT_DIGITS)
    cut = [round(photograph.shape[1] * (1 - HELD_OUT_WIDTH)) for photograph in photographs]
    parts = [
        photograph[:, at:] if held_out else photograph[:, :at] for photograph, at in zip(photographs, cut, strict=True)
    ]
    values = (digits.images[some] / 16).astype(np.float32)
    return Material(values, digits.target[some].astype(np.int32), tuple(map(np.asarray, parts)))


def composed(generator: np.random.Generator, material: Material) -> Composed:
    """A scene of 1 to `MOST` digits that do not cover one another, in any size and colour."""
    height, width = (int(generator.choice(edges)) for edges in (HEIGHTS, WIDTHS))
    picture = background(generator, material, height, width)
    segments, labels = np.zeros((height, width), np.uint8), []
    for _ in range(int(generator.integers(1, MOST + 1))):
        number = int(generator.integers(len(material.labels)))
        side = int(generator.integers(SIDES[0], SIDES[1] + 1))
        place = _free_place(generator, segments, side)
        if place is None:
            continue
        labels.append(int(material.labels[number]))
        here = np.s_[place[0] : place[0] + side, place[1] : place[1] + side]
        ink = _enlarged(material.digits[number], side)
        color = _color(generator, picture[here])
        picture[here] += ink[..., None] * (color - picture[here])
        segments[here][ink >= INK] = len(labels)
    return Composed(np.round(picture).clip(0, 255).astype(np.uint8), segments, np.array(labels, np.int32))


def background(generator: np.random.Generator, material: Material, height: int, width: int) -> np.ndarray:
    """A part of a photograph, at most twice as large in it, seen in a mirror or not."""
    photograph = material.photographs[generator.integers(len(material.photographs))]
    most = min(2.0, photograph.shape[0] / height, photograph.shape[1] / width)
    factor = generator.uniform(min(1.0, most), most)
    high, wide = int(height * factor), int(width * factor)
    top, left = (
        int(generator.integers(have - want + 1)) for have, want in zip(photograph.shape[:2], (high, wide), strict=True)
    )
    part = Image.fromarray(photograph[top : top + high, left : left + wide])
    pixels = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return (pixels[:, ::-1] if generator.random() < 0.5 else pixels).copy()


def _free_place(generator: np.random.Generator, segments: np.ndarray, side: int) -> tuple[int, int] | None:
    """The top and left of a square that shows no digit yet; `None` where none was found."""
    for _ in range(TRIES):
        top, left = (int(generator.integers(edge - side + 1)) for edge in segments.shape)
        if not segments[top : top + side, left : left + side].any():
            return top, left
    return None


def _enlarged(digit: Float32[np.ndarray, "8 8"], side: int) -> Float32[np.ndarray, "side side"]:
    """The opacity of a digit's ink, smooth."""
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(1.5 * np.asarray(image), 0, 1)


def _color(generator: np.random.Generator, place: np.ndarray) -> np.ndarray:
    """A colour that is darker or brighter than what is there."""
    color = generator.uniform(0, 90, 3)
    return color if place.mean() > 110 else 255 - color
