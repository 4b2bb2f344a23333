"""Positions: sinusoids, and rotations of queries and keys."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.precision import widened
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
