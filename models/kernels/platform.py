"""What differs between XLA's backends."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def on_all_cores(product: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same (but that a NaN spreads over its row): for XLA's CPU backend, which takes one core for batched products and
    some convolutions (JAX 0.10), unless a sum or the like shares their loop.
    """
    return jnp.maximum(product, product.min(axis=-1, keepdims=True))


def anew(arrays):
    """The same arrays; but XLA's CPU backend doesn't see that what follows is computed from them elsewhere, too: it would write
    that down for both, and for the backward pass keep it, large as it may be.
    """
    return jax.lax.platform_dependent(arrays, cpu=jax.lax.optimization_barrier, default=lambda arrays: arrays)
