"""What XLA's CPU backend (JAX 0.10) has to be kept from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def on_all_cores(product: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same values, but that a NaN spreads over its row: XLA:CPU computes batched products and some convolutions on one
    core, unless a reduction follows in the same loop.
    """
    return jnp.maximum(product, product.min(axis=-1, keepdims=True))


def without_reuse(arrays):
    """The same arrays. XLA:CPU does not see that what follows is computed from them elsewhere, too: it would write that result
    down for both uses, and keep it for the backward pass.
    """
    return jax.lax.platform_dependent(arrays, cpu=jax.lax.optimization_barrier, default=lambda arrays: arrays)
