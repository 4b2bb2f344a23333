"""Pictures altered at random while they are read: crops, turns, RandAugment. Each takes the generator that it draws from.

Random resized crops: Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv 1409.4842, with the draws of torchvision.
Crops of padded pictures: He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv 1512.03385, section 4.2.
RandAugment: Cubuk et al., 2019, arXiv 1909.13719, with the operations and levels of timm's `rand-m9-mstd0.5-inc1`.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

FILL = (124, 116, 104)
"""The mean colour of ImageNet: what comes into view from outside of a picture."""

TRIES = 10
"""Draws of a random resized crop before the middle is taken."""


def random_box(
    generator: np.random.Generator, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A part of a picture: its fraction of the area uniform in `scale`, the logarithm of width over height uniform in that of
    `ratio`; where none fits in ten draws, the largest in the middle that keeps to `ratio`.

    Args:
        size: (height, width) of the picture.
    """
    height, width = size
    for _ in range(TRIES):
        area = height * width * generator.uniform(*scale)
        shape = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        across, down = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < across <= width and 0 < down <= height:
            top, left = generator.integers(0, (height - down + 1, width - across + 1)).tolist()
            return left, top, left + across, top + down
    across = min(width, max(1, round(height * ratio[1])))
    down = min(height, max(1, round(width / ratio[0])))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def padded_crop(generator: np.random.Generator, image: Image.Image, padding: int) -> Image.Image:
    """A part of the same size of the picture with `padding` black pixels on each side."""
    left, top = generator.integers(-padding, padding + 1, 2).tolist()
    return image.crop((left, top, left + image.width, top + image.height))


def turned(
    generator: np.random.Generator, image: Image.Image, rotation: float, shear: float, resample: int
) -> Image.Image:
    """The picture slanted along its rows and rotated about its middle, on black; as torchvision's `RandomAffine` draws.

    Args:
        rotation, shear: degrees; the angles are uniform between minus and plus so many.
        resample: Pillow's number of the interpolation.
    """
    angle, slant = (math.radians(generator.uniform(-most, most)) for most in (rotation, shear))
    cos, sin, tan = math.cos(angle), math.sin(angle), math.tan(slant)
    right, down = (cos, sin + cos * tan), (-sin, cos - sin * tan)  # where a step in the result leads in the picture
    x, y = image.width / 2, image.height / 2
    matrix = (*right, x - right[0] * x - right[1] * y, *down, y - down[0] * x - down[1] * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample)


def rand_augment(
    generator: np.random.Generator,
    image: Image.Image,
    *,
    operations: int,
    magnitude: float,
    magnitude_std: float,
    resample: int,
) -> Image.Image:
    """`operations` of `OPERATIONS` one after the other, drawn with replacement, each done with probability 1/2.

    Args:
        magnitude: how much they do, from 0 to 10.
        magnitude_std: of the normal distribution around it that each one's is drawn from.
        resample: Pillow's number of the interpolation.
    """
    for operation in generator.integers(0, len(OPERATIONS), operations).tolist():
        done, level, sign = generator.random(), generator.normal(magnitude, magnitude_std), generator.random()
        if done < 0.5:
            level = min(max(level, 0.0), 10.0) / 10
            image = OPERATIONS[operation](image, level, -1 if sign < 0.5 else 1, resample)
    return image


Operation = Callable[[Image.Image, float, int, int], Image.Image]
"""(picture, level from 0 to 1, sign, interpolation) → picture."""


def _affine(coefficients: Callable[[Image.Image, float], tuple[float, ...]]) -> Operation:
    def operation(image: Image.Image, level: float, sign: int, resample: int) -> Image.Image:
        matrix = coefficients(image, sign * level)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=FILL)

    return operation


def _enhanced(enhancer: type) -> Operation:
    return lambda image, level, sign, resample: enhancer(image).enhance(max(0.1, 1 + sign * 0.9 * level))


def _rotated(image: Image.Image, level: float, sign: int, resample: int) -> Image.Image:
    return image.rotate(sign * 30 * level, resample=resample, fillcolor=FILL)


def _solarize_added(image: Image.Image, level: float, sign: int, resample: int) -> Image.Image:
    added = min(128, int(110 * level))
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


def _posterized(image: Image.Image, bits: int) -> Image.Image:
    return image.point([value >> (8 - bits) << (8 - bits) for value in range(256)] * 3)  # Pillow's own leaves no 0 bits


OPERATIONS: tuple[Operation, ...] = (
    lambda image, level, sign, resample: ImageOps.autocontrast(image),
    lambda image, level, sign, resample: ImageOps.equalize(image),
    lambda image, level, sign, resample: ImageOps.invert(image),
    _rotated,
    lambda image, level, sign, resample: _posterized(image, 4 - int(4 * level)),
    lambda image, level, sign, resample: ImageOps.solarize(image, 256 - min(256, int(256 * level))),
    _solarize_added,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    _affine(lambda image, level: (1, 0.3 * level, 0, 0, 1, 0)),
    _affine(lambda image, level: (1, 0, 0, 0.3 * level, 1, 0)),
    _affine(lambda image, level: (1, 0, 0.45 * level * image.width, 0, 1, 0)),
    _affine(lambda image, level: (1, 0, 0, 0, 1, 0.45 * level * image.height)),
)
"""Contrast stretched, histogram flattened, colours inverted; rotation by up to 30°; 4 to 0 bits a channel; values from a
threshold on inverted, and dark ones made brighter; colour, contrast, brightness and sharpness from 0.1 to 1.9 times; shear by
up to 0.3 and shift by up to 0.45 of an edge, both ways."""
