"""Augmentation of pictures on the device, in pure JAX: flips, colours, erased boxes, and two pictures mixed into one.

Random erasing: Zhong et al., 2017, arXiv 1708.04896. Mixup: Zhang et al., 2017, arXiv 1710.09412. CutMix: Yun et al., 2019, arXiv
1905.04899. Ranges and their order as in `timm`, with which DeiT, ConvNeXt and LeViT were trained.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from data.errors import DataError

Picture = Float[Array, "height width channels"]
Example = dict[str, Array]

LUMA = 19_595, 38_470, 7_471
"""Shares of red, green and blue in grey (ITU-R BT.601), of 2¹⁶."""
ERASED_AREA = 0.02, 1 / 3
ERASED_ASPECT = 0.3, 1 / 0.3
ATTEMPTS = 10
"""Boxes drawn until one fits into the picture; where none does, nothing is erased."""
GRAIN = 2.0**-12
"""Shares of mixtures are multiples of it: how logarithms are rounded differs with the size of a batch, and must not show."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What becomes of a picture each time it is seen; all chance comes from its key.

    In this order: flipped, its colours changed, normalised, a box erased; then mixed with another picture that has gone
    through the same, with chances of its own.

    Attributes:
        flip: fraction of the pictures seen in a mirror, left and right exchanged.
        color_jitter: brightness, contrast and saturation are changed, in random order, by factors drawn from
            1 ± `color_jitter`. (`timm` leaves this out where it has an automatic augmentation such as RandAugment to do.)
        erasing: fraction of the pictures of which a box is replaced by noise N(0, 1).
        mixup: α of the Beta(α, α) distribution that the first picture's fraction in a mixture is drawn from; 0 for none.
        cutmix: α of the fraction that is left of the first picture when a box of the other is pasted into it; 0 for none.
        mix_probability: fraction of the pictures that are mixed.
        switch_probability: where there is both, fraction of the mixtures that are pasted.
        rescale_factor, image_mean, image_std: (pixel · `rescale_factor` - mean) / std for each channel.
    """

    reads: ClassVar[tuple[str, ...]] = ("pixel_values",)
    writes: ClassVar[tuple[str, ...]] = ("pixel_values",)

    flip: float = 0.5
    color_jitter: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("flip", "color_jitter", "erasing", "mix_probability", "switch_probability"):
            if not 0 <= vars(self)[name] <= 1:
                raise DataError(f"{name}={vars(self)[name]}: a fraction must lie in [0, 1]")
        if min(self.mixup, self.cutmix) < 0:
            raise DataError(f"mixup={self.mixup}, cutmix={self.cutmix}: expected more than 0, or 0 for none")
        if len(self.image_mean) != len(self.image_std) or not min(self.image_std) > 0:
            raise DataError(
                f"image_mean={self.image_mean}, image_std={self.image_std}: expected a mean and a positive deviation for"
                " each channel"
            )
        if self.color_jitter and len(self.image_mean) not in (1, 3):
            raise DataError(
                f"color_jitter={self.color_jitter}: colours of {len(self.image_mean)} channels are not known"
            )

    @property
    def mixes(self) -> bool:
        """Whether a second picture is wanted."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_probability > 0

    def __call__(self, key: Key[Array, ""], example: Example, training: bool) -> Example:
        """`pixel_values` (height, width, channels), uint8, as a model is to see them: float32, and augmented in `training`.

        Where pictures are mixed, `other_pixel_values` are mixed into them and left out, and `mix` () is the fraction of the
        first picture in the result, of a pasted one by area.

        Raises:
            DataError: the pictures have more or fewer channels than `image_mean`, or there is none to mix.
        """
        picture, mixed = example["pixel_values"], training and self.mixes
        if picture.shape[-1] != len(self.image_mean):
            raise DataError(
                f"pictures of {picture.shape[-1]} channel(s), and image_mean={self.image_mean}: give a mean and a deviation"
                " for each channel"
            )
        if mixed and "other_pixel_values" not in example:
            raise DataError("there is no second picture, other_pixel_values, to mix: set mixup and cutmix to 0")
        seen = {name: value for name, value in example.items() if name != "other_pixel_values"}
        if not training:
            return {**seen, "pixel_values": self.normalized(picture)}
        own_key, other_key, mix_key = jax.random.split(key, 3)
        view = self._view(own_key, picture)
        if not mixed:
            return {**seen, "pixel_values": view}
        other = self._view(other_key, example["other_pixel_values"])
        return {**seen, **self._mixture(mix_key, view, other)}

    def normalized(self, picture: Num[Array, "height width channels"]) -> Picture:
        """(pixel · `rescale_factor` - `image_mean`) / `image_std`, in float32."""
        mean, std = (jnp.asarray(x, jnp.float32)[None, None] for x in (self.image_mean, self.image_std))
        return (picture.astype(jnp.float32) * self.rescale_factor - mean) / std

    def _view(self, key: Key[Array, ""], picture: Num[Array, "height width channels"]) -> Picture:
        """One picture, augmented and normalised."""
        flip_key, factor_key, order_key, erase_key, box_key, noise_key = jax.random.split(key, 6)
        if self.flip:
            flipped = jax.random.uniform(flip_key) < self.flip
            picture = jnp.where(flipped, picture[:, ::-1], picture)
        if self.color_jitter:
            least, most = 1 - self.color_jitter, 1 + self.color_jitter
            factors = jax.random.uniform(factor_key, (3,), minval=least, maxval=most)
            picture = jittered(picture, factors, jax.random.permutation(order_key, 3))
        view = self.normalized(picture)
        if self.erasing:
            height, width, _ = view.shape
            erased = erased_box(box_key, height, width) & (jax.random.uniform(erase_key) < self.erasing)
            view = jnp.where(erased[..., None], jax.random.normal(noise_key, view.shape), view)
        return view

    def _mixture(self, key: Key[Array, ""], view: Picture, other: Picture) -> Example:
        """Both in one picture, and the fraction of the first."""
        mix_key, switch_key, fraction_key, box_key = jax.random.split(key, 4)
        if self.mixup and self.cutmix:
            pasted = jax.random.uniform(switch_key) < self.switch_probability
        else:
            pasted = jnp.asarray(self.cutmix > 0)
        alpha = jnp.where(pasted, self.cutmix, self.mixup)
        fraction = jnp.round(jax.random.beta(fraction_key, alpha, alpha) / GRAIN) * GRAIN
        fraction = jnp.where(jax.random.uniform(mix_key) < self.mix_probability, fraction, 1.0)
        if not self.cutmix:
            return {"pixel_values": fraction * view + (1 - fraction) * other, "mix": fraction}
        height, width, _ = view.shape
        box = pasted_box(box_key, fraction, height, width) & pasted
        fraction = jnp.where(pasted, 1 - box.mean(dtype=jnp.float32), fraction)
        mixed = jnp.where(pasted, view, fraction * view + (1 - fraction) * other)
        return {"pixel_values": jnp.where(box[..., None], other, mixed), "mix": fraction}


def jittered(
    picture: Num[Array, "height width channels"], factors: Float[Array, "3"], order: Int[Array, "3"]
) -> Int[Array, "height width channels"]:
    """Brightness (0), contrast (1) and saturation (2) multiplied by their factors, in this order, in whole numbers as Pillow's.

    Each is a step from a dull picture, black, evenly grey or grey, through the present one; what would be darker than black
    or brighter than white is cut off.
    """
    picture = picture.astype(jnp.int32)
    height, width, channels = picture.shape
    for which in order:
        grey = picture
        if channels == 3:
            grey = ((picture * jnp.asarray(LUMA)[None, None]).sum(axis=-1, keepdims=True) + 2**15) >> 16
        mean = (2 * grey.sum() + height * width) // (2 * height * width)
        dull = jnp.where(which == 0, 0, jnp.where(which == 1, mean, grey))
        changed = dull.astype(jnp.float32) + factors[which] * (picture - dull).astype(jnp.float32)
        picture = jnp.clip(changed, 0, 255).astype(jnp.int32)
    return picture


def erased_box(key: Key[Array, ""], height: int, width: int) -> Bool[Array, "height width"]:
    """A box of 2 to 33 % of the picture, 0.3 to 3.3 times as high as wide, in a random place."""
    area_key, aspect_key, top_key, left_key = jax.random.split(key, 4)
    least, most = ERASED_AREA
    area = jax.random.uniform(area_key, (ATTEMPTS,), minval=least, maxval=most) * height * width
    least, most = map(math.log, ERASED_ASPECT)
    aspect = jnp.exp(jax.random.uniform(aspect_key, (ATTEMPTS,), minval=least, maxval=most))
    heights = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (heights < height) & (widths < width)
    first = jnp.argmax(fits)
    high, wide = jnp.where(fits[first], heights[first], 0), jnp.where(fits[first], widths[first], 0)
    top = jax.random.randint(top_key, (), 0, height - high + 1)
    left = jax.random.randint(left_key, (), 0, width - wide + 1)
    return _box(top, top + high, left, left + wide, height, width)


def pasted_box(key: Key[Array, ""], fraction: Float[Array, ""], height: int, width: int) -> Bool[Array, "height width"]:
    """A box of 1 - `fraction` of the picture, as high in proportion as wide, around a random place; cut off at the edges."""
    row_key, column_key = jax.random.split(key)
    side = jnp.sqrt(1 - fraction)
    high, wide = ((side * size).astype(jnp.int32) // 2 for size in (height, width))
    row = jax.random.randint(row_key, (), 0, height)
    column = jax.random.randint(column_key, (), 0, width)
    return _box(row - high, row + high, column - wide, column + wide, height, width)


def _box(
    top: Int[Array, ""], bottom: Int[Array, ""], left: Int[Array, ""], right: Int[Array, ""], height: int, width: int
) -> Bool[Array, "height width"]:
    """True from `top` and `left` up to before `bottom` and `right`."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
