"""Activations whose backward pass keeps their inputs alone, and computes what is between again, in one loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.gradient import with_gradient
from models.kernels.platform import without_reuse

Formula = Callable[[Array], Array]


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0). `where`, not `maximum`: XLA:CPU recomputes a maximum at each use, and the residual sums before it."""
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x)


def activate(formula: Formula, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """formula(x). The backward pass keeps `x`, of `relu` the result."""
    return _activate(x, formula=formula)


def gated(formula: Formula, gate: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """formula(gate) · x. The backward pass keeps `gate` and `x`."""
    return _gated(gate, x, formula=formula)


def _activate_forward(x, *, formula):
    y = formula(x)
    return y, (y if formula is relu else x,)


def _activate_backward(residuals, gradient, *, formula):
    return jax.vjp(formula, without_reuse(residuals[0]))[1](gradient)


_activate = with_gradient(lambda x, *, formula: formula(x), _activate_forward, _activate_backward)


def _product(gate, x, *, formula):
    return formula(gate) * x


def _gated_forward(gate, x, *, formula):
    return _product(gate, x, formula=formula), (gate, x)


def _gated_backward(residuals, gradient, *, formula):
    gate, x = without_reuse(residuals)
    active, back = jax.vjp(formula, gate)
    return *back(gradient * x), gradient * active


_gated = with_gradient(_product, _gated_forward, _gated_backward)
