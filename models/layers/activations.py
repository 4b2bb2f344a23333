"""Activation functions, by the names that published configs have for them."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import ModelError, nearest
from models.kernels import activation as activation_kernel
from models.kernels.activation import relu
from models.kernels.precision import widened


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 2016, arXiv 1606.08415), in float32 or wider."""
    wide = widened(x)
    return (wide * (0.5 * (1.0 + jax.lax.erf(wide * math.sqrt(0.5))))).astype(x.dtype)


def gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The tanh approximation of `gelu` (Hendrycks & Gimpel, 2016, section 2)."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x σ(1.702 x), the sigmoid approximation of `gelu` (Hendrycks & Gimpel, 2016, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


def laplace(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Φ((x - μ) / σ) with μ = √½ and σ = √(1 / 4π), six digits of each (Ma et al., "Mega", 2022, arXiv 2209.10655)."""
    return 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": lambda x: jnp.square(relu(x)),
    "relu6": jax.nn.relu6,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "hardswish": jax.nn.hard_swish,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
    "tanh": jnp.tanh,
    "laplace": laplace,
    "linear": lambda x: x,
}
"""By the names that `transformers` has for them; those with parameters of their own (`prelu`, `xielu`) are not among them."""


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a published config calls `name`."""
    return functools.partial(activation_kernel.activate, _formula(name))


def _formula(name: str) -> Callable[[Array], Array]:
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}: {nearest(name, list(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def gated(name: str, gate: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """activation(gate) · x (Shazeer, "GLU Variants Improve Transformer", 2020, arXiv 2002.05202)."""
    return activation_kernel.gated(_formula(name), gate, x)
