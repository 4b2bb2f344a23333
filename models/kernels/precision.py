"""The precision of sums: float32, or wider where that is computed in."""

import jax.numpy as jnp
from jaxtyping import Array


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """float32, or `dtype` where that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: Array) -> Array:
    """`x` in float32 or wider."""
    return x.astype(wide(x.dtype))
