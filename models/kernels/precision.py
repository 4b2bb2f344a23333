"""The precision of sums: float32, or wider where that is computed in."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """float32, or `dtype` where that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: Any) -> Array:
    """`x` in float32 or wider; JAX hands over constants as arrays of a type of their own."""
    return jnp.asarray(x).astype(wide(x.dtype))
