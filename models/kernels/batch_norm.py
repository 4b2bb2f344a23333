"""Batch normalisation over the batch's statistics."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.platform import anew


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_normalized(
    x: Float[Array, "... features"],
    scale: Float[Array, " features"],
    bias: Float[Array, " features"],
    epsilon: float,
    batch_axes: tuple[str, ...],
) -> tuple[Float[Array, "... features"], Float[Array, " features"], Float[Array, " features"]]:
    """(x - mean) / √(variance + epsilon) · scale + bias in the dtype of `x`, and the mean and the variance, over all axes but
    the last and over `batch_axes`, in float32. Mean and variance pass no gradient on.

    The backward pass keeps `x` and the statistics, and goes over `x` and the gradient twice (`models.kernels.norm.normalized`).
    """
    return _batch_normalized_forward(x, scale, bias, epsilon, batch_axes)[0]


def _batch_normalized_forward(x, scale, bias, epsilon, batch_axes):
    rows = tuple(range(x.ndim - 1))
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = across(wide.mean(axis=rows), batch_axes)
    var = across(((wide - jnp.expand_dims(mean, rows)) ** 2).mean(axis=rows), batch_axes)
    inverse, mean = jax.lax.rsqrt(var + epsilon), anew(mean)
    y = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse * scale, rows) + jnp.expand_dims(bias, rows)
    return (y.astype(x.dtype), mean, var), (x, mean, inverse, scale)


def _batch_normalized_backward(epsilon, batch_axes, saved, gradients):
    x, mean, inverse, scale = saved
    rows, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    gradient, wide = gradients[0].astype(inverse.dtype), x.astype(inverse.dtype)
    normed = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse, rows)
    biases = gradient.sum(axis=rows)
    scales = (gradient * (wide - jnp.expand_dims(anew(mean), rows))).sum(axis=rows) * inverse
    along, beside = (jnp.expand_dims(across(y, batch_axes) / count, rows) for y in (scales, biases))
    inputs = jnp.expand_dims(inverse * scale, rows) * (gradient - beside - normed * along)
    return inputs.astype(x.dtype), scales.astype(scale.dtype), biases.astype(scale.dtype)


batch_normalized.defvjp(_batch_normalized_forward, _batch_normalized_backward)


def across(x: Array, axes: tuple[str, ...]) -> Array:
    """The mean of `x` over mapped axes."""
    return jax.lax.pmean(x, axes) if axes else x
