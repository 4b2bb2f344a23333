"""Batch normalisation by the statistics of the batch."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.gradient import with_gradient
from models.kernels.platform import without_reuse
from models.kernels.precision import widened


def batch_normalized(
    x: Float[Array, "... features"],
    scale: Float[Array, " features"],
    bias: Float[Array, " features"],
    epsilon: float,
    batch_axes: tuple[str, ...],
) -> tuple[Float[Array, "... features"], Float[Array, " features"], Float[Array, " features"]]:
    """(x - mean) / √(variance + epsilon) · scale + bias in the dtype of `x`, and the mean and the variance, over all axes but
    the last and over `batch_axes`, in float32 or wider. Mean and variance pass no gradient on.

    The backward pass keeps `x` and the statistics, and goes over `x` and the gradient twice (`models.kernels.norm`).
    """
    return _batch_normalized(x, scale, bias, epsilon=epsilon, batch_axes=batch_axes)


def _forward(x, scale, bias, *, epsilon, batch_axes):
    rows = tuple(range(x.ndim - 1))
    wide = widened(x)
    mean = across(wide.mean(axis=rows), batch_axes)
    var = across(((wide - jnp.expand_dims(mean, rows)) ** 2).mean(axis=rows), batch_axes)
    inverse, mean = jax.lax.rsqrt(var + epsilon), without_reuse(mean)
    y = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse * scale, rows) + jnp.expand_dims(bias, rows)
    return (y.astype(x.dtype), mean, var), (x, mean, inverse, scale)


def _backward(residuals, gradients, *, epsilon, batch_axes):
    x, mean, inverse, scale = residuals
    rows, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    gradient, wide = gradients[0].astype(inverse.dtype), x.astype(inverse.dtype)
    normed = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse, rows)
    biases = gradient.sum(axis=rows)
    scales = (gradient * (wide - jnp.expand_dims(without_reuse(mean), rows))).sum(axis=rows) * inverse
    along, beside = (jnp.expand_dims(across(y, batch_axes) / count, rows) for y in (scales, biases))
    inputs = jnp.expand_dims(inverse * scale, rows) * (gradient - beside - normed * along)
    return inputs.astype(x.dtype), scales.astype(scale.dtype), biases.astype(scale.dtype)


def _reference(x, scale, bias, *, epsilon, batch_axes):
    (y, *statistics), _ = _forward(x, scale, bias, epsilon=epsilon, batch_axes=batch_axes)
    return y, *map(jax.lax.stop_gradient, statistics)


def _inputs(residuals):
    x, _, _, scale = residuals
    return x, scale, None


_batch_normalized = with_gradient(_reference, _forward, _backward, _inputs)


def across(x: Array, axes: tuple[str, ...]) -> Array:
    """The mean of `x` over mapped axes."""
    return jax.lax.pmean(x, axes) if axes else x
