"""The loss of classification by softmax, its gradient written in one pass."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.kernels.gradient import with_gradient
from models.kernels.precision import widened


def negative_log_likelihood(
    logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"], smoothing: float
) -> Float[Array, "*shape"]:
    """-Σ target · log softmax(logits) in float32 or wider. The target is the label, `smoothing` of it spread over all classes.

    The backward pass keeps the logits and the normalizers; the gradient is softmax(logits) - target.
    """
    return _likelihood(logits, labels, smoothing=smoothing)


def _reference(logits, labels, *, smoothing):
    logs = jax.nn.log_softmax(widened(logits), axis=-1)
    chosen = jnp.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]
    return -((1 - smoothing) * chosen + smoothing * logs.mean(axis=-1))


def _forward(logits, labels, *, smoothing):
    wide = widened(logits)
    chosen = jnp.take_along_axis(wide, labels[..., None], axis=-1)[..., 0]
    normalizer = jax.nn.logsumexp(wide, axis=-1)
    if smoothing:
        chosen = (1 - smoothing) * chosen + smoothing * wide.mean(axis=-1)
    return normalizer - chosen, (logits, labels, normalizer)


def _backward(residuals, gradient, *, smoothing):
    logits, labels, normalizer = residuals
    softmax = jnp.exp(widened(logits) - normalizer[..., None])
    target = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / logits.shape[-1]
    return (gradient[..., None] * (softmax - target)).astype(logits.dtype), None


_likelihood = with_gradient(_reference, _forward, _backward, inputs=lambda residuals: residuals[:2])
