"""Masked image modelling: patches are masked, and their pixels predicted.

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
    """SimMIM: a fraction of an image's squares is masked, and the loss is on their pixels alone.

    Attributes:
        patch_size: pixels on a side of the model's patches.
        mask_patch_size: pixels on a side of the masked squares.
        rate: fraction of the squares that is masked, rounded up.
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
        """Adds `bool_masked_pos` (patches,), row by row: true for masked patches, the same number in every image."""
        rows, columns = grid(example["pixel_values"].shape, self.mask_patch_size)
        squares = rows * columns
        hidden = choose(key, jnp.ones(squares, bool), jnp.asarray(math.ceil(squares * self.rate)))
        side = self.mask_patch_size // self.patch_size
        patches = repeat(
            hidden, "(rows columns) -> (rows high columns wide)", rows=rows, columns=columns, high=side, wide=side
        )
        return {**example, "bool_masked_pos": patches}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Mean |pixel - reconstruction| over the channels of the masked pixels."""
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
    """Masked autoencoder: the encoder reads a few patches, and the loss is on the pixels of the others.

    The model drops the patches with the largest `noise`, a fraction `mask_ratio`, and returns

        logits (batch, patches, patch_size² · channels): the pixels of all patches, row by row, the channels innermost.
        mask (batch, patches): 1 for dropped patches, 0 for those read.

    Attributes:
        patch_size: pixels on a side of the model's patches.
        rate: fraction of dropped patches; the model's `mask_ratio`.
        normalized: targets are the pixels normalised by mean and deviation of their patch.
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
        """The mean squared error of the dropped patches.

        Its weight is their number according to `rate`: weights may not depend on the model's outputs.
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
        """The target pixels of each patch."""
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
    """Rows and columns of squares of `size` pixels in an image (height, width, channels)."""
    height, width, _ = shape
    if height % size or width % size:
        raise ObjectiveError(f"a picture of {height} × {width} pixels is not made of squares of {size} × {size}")
    return height // size, width // size
