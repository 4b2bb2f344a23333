"""What differs by platform: what XLA's CPU backend (JAX 0.10) has to be kept from, and which devices have kernels."""

from typing import Any

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


ATTENTION = ("reference", "kernel", "auto")
"""What computes attention: XLA, from scores that it writes; a kernel that does not; or whichever suits the device."""
TPUS = ("TPU v5 lite", "TPU v5", "TPU v6 lite")
"""The kinds of device that the kernel of attention is compiled for."""


def attention_version(asked: str, device: Any = None) -> str:
    """`reference` or `kernel`: what `auto` means on a device, this machine's first where `None`."""
    if asked != "auto":
        return asked
    device = jax.devices()[0] if device is None else device
    return "kernel" if device.device_kind in TPUS else "reference"
