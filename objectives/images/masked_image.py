"""Masked pictures: patches are hidden, and their pixels asked back.

Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", 2021, arXiv 2111.09886; He et al., "Masked Autoencoders Are
Scalable Vision Learners", 2021, arXiv 2111.06377.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Float, Key

from models.kernels.precision import widened
from objectives.draws import choose
from objectives.objective import Example, Losses, Objective, ObjectiveError


@dataclasses.dataclass(frozen=True)
class MaskedImage(Objective):
    """SimMIM's: a fraction of the squares of a picture is hidden; the model is asked for the pixels under them alone.

    Attributes:
        patch_size: pixels on a side of the model's patches.
        mask_patch_size: pixels on a side of the squares that are hidden whole.
        rate: fraction of these that is hidden, rounded up.
    """

    reads: ClassVar[tuple[str, ...]] = ("pixel_values",)
    writes: ClassVar[tuple[str, ...]] = ("bool_masked_pos",)
    takes: ClassVar[tuple[str, ...]] = ("pixel_values", "bool_masked_pos")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("reconstruction",),)

    patch_size: int = 16
    mask_patch_size: int = 32
    rate: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ObjectiveError(f"rate={self.rate}: the fraction of hidden squares must lie in (0, 1]")
        if self.patch_size < 1 or self.mask_patch_size < 1 or self.mask_patch_size % self.patch_size:
            raise ObjectiveError(
                f"mask_patch_size={self.mask_patch_size}, patch_size={self.patch_size}: a hidden square must be made of"
                " whole patches"
            )

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `bool_masked_pos` (patches,), row by row: true where a patch is hidden, of as many in every picture."""
        rows, columns = grid(example["pixel_values"].shape, self.mask_patch_size)
        squares = rows * columns
        hidden = choose(key, jnp.ones(squares, bool), jnp.asarray(math.ceil(squares * self.rate)))
        side = self.mask_patch_size // self.patch_size
        patches = repeat(
            hidden, "(rows columns) -> (rows high columns wide)", rows=rows, columns=columns, high=side, wide=side
        )
        return {**example, "bool_masked_pos": patches}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """|pixel - reconstruction| of the hidden pixels, a pixel having as many numbers as there are channels."""
        pixels, predicted = batch["pixel_values"], widened(self.output(outputs))
        if predicted.shape != pixels.shape:
            raise ObjectiveError(f"a reconstruction of shape {predicted.shape} of pixels of shape {pixels.shape}")
        rows, columns = grid(pixels.shape[1:], self.patch_size)
        hidden = repeat(
            batch["bool_masked_pos"],
            "batch (rows columns) -> batch (rows high) (columns wide) 1",
            rows=rows,
            columns=columns,
            high=self.patch_size,
            wide=self.patch_size,
        )
        amount = jnp.where(hidden, jnp.abs(pixels.astype(jnp.float32) - predicted), 0.0).sum()
        numbers = self.patch_size**2 * pixels.shape[-1]
        return {"masked_image_loss": (amount, batch["bool_masked_pos"].sum().astype(jnp.float32) * numbers)}


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoder(Objective):
    """MAE's: most patches are left out, the model reads the others alone, and is asked for those left out.

    The model leaves out the patches with the most `noise`, as many as its `mask_ratio` says, and returns

        logits (batch, patches, patch_size² · channels): the pixels of all patches, row by row, the channels innermost.
        mask (batch, patches): 1 where a patch was left out, 0 where it was read.

    Attributes:
        patch_size: pixels on a side of the model's patches.
        rate: fraction of the patches that is left out; the model's `mask_ratio`.
        normalized: ask for the pixels less the mean of their patch and over its deviation, rather than as they are.
    """

    reads: ClassVar[tuple[str, ...]] = ("pixel_values",)
    writes: ClassVar[tuple[str, ...]] = ("noise",)
    takes: ClassVar[tuple[str, ...]] = ("pixel_values", "noise")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",), ("mask",))
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType({"rate": "mask_ratio"})

    patch_size: int = 16
    rate: float = 0.75
    normalized: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ObjectiveError(f"rate={self.rate}: the fraction of patches left out must lie in (0, 1)")
        if self.patch_size < 1:
            raise ObjectiveError(f"patch_size={self.patch_size}: expected at least 1")

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `noise` (patches,), uniform in [0, 1)."""
        rows, columns = grid(example["pixel_values"].shape, self.patch_size)
        return {**example, "noise": jax.random.uniform(key, (rows * columns,))}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """The mean squared error of each patch that was left out.

        Its weight is their number, by `rate`: of what a model leaves out no loss's weight may depend.
        """
        logits, mask = widened(self.output(outputs, 0)), self.output(outputs, 1)
        targets = self.targets(batch["pixel_values"])
        if logits.shape != targets.shape:
            raise ObjectiveError(f"logits of shape {logits.shape} for patches of pixels of shape {targets.shape}")
        errors = ((logits - targets) ** 2).mean(axis=-1)
        images, patches = errors.shape
        left_out = patches - int(patches * (1 - self.rate))
        return {"reconstruction_loss": ((errors * mask).sum(), jnp.float32(images * left_out))}

    def targets(self, pixels: Float[Array, "batch height width channels"]) -> Float[Array, "batch patches numbers"]:
        """What is asked for of each patch."""
        grid(pixels.shape[1:], self.patch_size)
        patches = rearrange(
            pixels.astype(jnp.float32),
            "batch (rows high) (columns wide) channels -> batch (rows columns) (high wide channels)",
            high=self.patch_size,
            wide=self.patch_size,
        )
        if not self.normalized:
            return patches
        mean, var = patches.mean(axis=-1, keepdims=True), patches.var(axis=-1, ddof=1, keepdims=True)
        return (patches - mean) * jax.lax.rsqrt(var + 1e-6)


def grid(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Rows and columns of squares of `size` pixels in a picture (height, width, channels)."""
    height, width, _ = shape
    if height % size or width % size:
        raise ObjectiveError(f"a picture of {height} × {width} pixels is not made of squares of {size} × {size}")
    return height // size, width // size
