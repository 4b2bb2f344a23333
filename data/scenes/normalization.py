"""Normalises padded pictures on the device."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Key

from data.errors import DataError
from data.images.processor import IMAGENET_MEAN, IMAGENET_STD

Example = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """(pixel · `rescale_factor` - `image_mean`) / `image_std` for each channel, and exactly 0 in the padding."""

    reads: ClassVar[tuple[str, ...]] = ("pixel_values", "pixel_mask")
    writes: ClassVar[tuple[str, ...]] = ("pixel_values",)

    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or not min(self.image_std) > 0:
            raise DataError(
                f"image_mean={self.image_mean}, image_std={self.image_std}: expected a mean and a positive deviation for"
                " each of red, green and blue"
            )

    @property
    def mixes(self) -> bool:
        """No other picture is mixed in."""
        return False

    def __call__(self, key: Key[Array, ""], example: Example, training: bool) -> Example:
        """Normalises `pixel_values` (height, width, 3) from uint8 to float32, 0 where `pixel_mask` is 0."""
        mean, std = (jnp.asarray(x, jnp.float32)[None, None] for x in (self.image_mean, self.image_std))
        values = (example["pixel_values"].astype(jnp.float32) * self.rescale_factor - mean) / std
        return {**example, "pixel_values": jnp.where(example["pixel_mask"][..., None] > 0, values, 0.0)}
