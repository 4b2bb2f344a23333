"""Layer and root mean square normalisation, with two passes over the input in the backward pass."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.gradient import with_gradient
from models.kernels.precision import widened


def normalized(
    x: Float[Array, "... features"],
    scale: Float[Array, " features"],
    bias: Float[Array, " features"] | None,
    epsilon: float,
    dtype: jnp.dtype,
) -> Float[Array, "... features"]:
    """(x - mean) / √(variance + epsilon) · scale + bias over the last axis; without `bias` x / √(mean(x²) + epsilon) · scale.

    In float32 or wider, the variance from centred values. Without `bias` the quotient is rounded to `dtype` before it is
    scaled, as in Llama and T5. The backward pass keeps `x` and two numbers of each row: XLA:CPU computes the gradient that it
    derives again in every later loop that it passes through.
    """
    return _normalized(x, scale, bias, epsilon=epsilon, dtype=dtype)


def _forward(x, scale, bias, *, epsilon, dtype):
    wide = widened(x)
    mean = None if bias is None else wide.mean(axis=-1, keepdims=True)
    centred = wide if mean is None else wide - mean
    inverse = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    scale_by, *shift_by = (jnp.expand_dims(y, range(x.ndim - 1)) for y in (scale, bias) if y is not None)
    if bias is None:
        y = (centred * inverse).astype(dtype) * scale_by.astype(dtype)
    else:
        y = (centred * inverse * scale_by + shift_by[0]).astype(dtype)
    return y, (x, mean, inverse, scale)


def _backward(residuals, gradient, *, epsilon, dtype):
    x, mean, inverse, scale = residuals
    gradient = gradient.astype(inverse.dtype)
    normed = (x.astype(inverse.dtype) - (0.0 if mean is None else mean)) * inverse
    scaled = gradient * jnp.expand_dims(scale.astype(inverse.dtype), range(x.ndim - 1))
    along = (scaled * normed).mean(axis=-1, keepdims=True)
    across = 0.0 if mean is None else scaled.mean(axis=-1, keepdims=True)
    inputs = (inverse * (scaled - across - normed * along)).astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    scales = (gradient * normed).sum(axis=rows).astype(scale.dtype)
    return inputs, scales, None if mean is None else gradient.sum(axis=rows).astype(scale.dtype)


def _reference(x, scale, bias, *, epsilon, dtype):
    return _forward(x, scale, bias, epsilon=epsilon, dtype=dtype)[0]


def _inputs(residuals):
    x, _, _, scale = residuals
    return x, scale, None


_normalized = with_gradient(_reference, _forward, _backward, _inputs)
