"""Positions: sinusoids, rotations of queries and keys, and positions of a grid for another."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from models.config import ModelError, nearest
from models.kernels.precision import widened
from models.layers.convolution import Pair
from models.layers.linear import Initializer


def sinusoids(scale: float) -> Initializer:
    """Sines and cosines of geometric wavelengths (Vaswani et al., 2017, section 3.5), with root mean square `scale`."""

    def table(key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "positions features"]:
        positions, features = shape
        angles = jnp.arange(positions)[:, None] / 10_000 ** (2 * jnp.arange(features // 2) / features)[None]
        return (math.sqrt(2) * scale * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)).astype(dtype)

    return table


def rotate(
    x: Float[Array, "batch heads length dim"],
    cos: Float[Array, "#batch 1 length dim"],
    sin: Float[Array, "#batch 1 length dim"],
) -> Float[Array, "batch heads length dim"]:
    """Rotary positions: the pairs (xᵢ, xᵢ₊dim⸝₂) turned by their angles (Su et al., "RoFormer", 2021, arXiv 2104.09864)."""
    first, second = jnp.split(widened(x), 2, axis=-1)
    return (x * cos + jnp.concatenate([-second, first], axis=-1) * sin).astype(x.dtype)


METHODS = ("bicubic", "bilinear")


def resize_matrix(before: int, after: int, method: str = "bicubic") -> Float[np.ndarray, "after before"]:
    """The matrix that resizes a line of `before` values to `after`.

    Args:
        method: `bicubic` is Keys' kernel with a = -0.75, its samples at the middles of `after` equal parts of the line, the
            values at the ends continued: `interpolate(mode="bicubic", align_corners=False)` of torch, with which
            `transformers` resizes positions (`jax.image.resize` has a = -0.5). `bilinear` joins the values by straight lines
            from the first to the last: SciPy's `zoom(order=1)`, with which ViT's authors do.
    """
    if method not in METHODS:
        raise ModelError(f"unknown method {method!r}: {nearest(method, list(METHODS))}")
    if method == "bilinear":
        places = np.linspace(0, before - 1, after) if after > 1 else np.zeros(1)
        distances = np.abs(places[:, None] - np.arange(before))
        return np.maximum(0, 1 - distances).astype(np.float32)
    places = (np.arange(after) + 0.5) * before / after - 0.5
    first = np.floor(places).astype(int)
    matrix = np.zeros((after, before))
    for tap in (-1, 0, 1, 2):
        distance = np.abs(places - first - tap)
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
        np.add.at(matrix, (np.arange(after), np.clip(first + tap, 0, before - 1)), np.where(distance <= 1, near, far))
    return matrix.astype(np.float32)


def resize_positions(
    positions: Float[Array, "1 places hidden"], before: Pair, after: Pair, method: str = "bicubic"
) -> Float[Array, "1 new_places hidden"]:
    """Positions of a grid of `before` (rows, columns) as those of another grid; the first one, [CLS]'s, as it was.

    What was learned at one resolution then serves another (Dosovitskiy et al., 2020, arXiv 2010.11929, section 3.2).
    `method`: see `resize_matrix`.
    """
    if before == after:
        return positions
    grid = rearrange(positions[0, 1:], "(rows columns) hidden -> rows columns hidden", rows=before[0])
    rows, columns = (resize_matrix(old, new, method) for old, new in zip(before, after, strict=True))
    resized = jnp.einsum("Rr,Cc,rch->RCh", rows, columns, grid, precision="highest")
    resized = rearrange(resized, "rows columns hidden -> (rows columns) hidden").astype(positions.dtype)
    return jnp.concatenate([positions[:, :1], resized[None]], axis=1)
