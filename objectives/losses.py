"""Losses and metrics as sums and weights over the places that are asked."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from objectives.objective import ObjectiveError, Pair

NATS = "nats"
"""The unit of a cross-entropy of natural logarithms."""

IGNORED = -100
"""The label of a place that is not asked (as in `transformers`)."""


def cross_entropy(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    smoothing: float = 0.0,
    shares: Float[Array, "*shape"] | None = None,
) -> Pair:
    """`(sum, weight)` of -Σ target · log softmax(logits) in float32, over the places whose label is not `IGNORED`.

    The target is the label, of which `smoothing` is spread evenly over all classes, the label among them (Szegedy et al.,
    2015, arXiv 1512.00567, section 7; `torch.nn.CrossEntropyLoss(label_smoothing=...)`). With `shares` a place's loss is
    multiplied by its share; its weight is not.
    """
    asked = labels != IGNORED
    losses = _surprise(logits, jnp.where(asked, labels, 0), smoothing)
    if shares is not None:
        losses *= shares
    return jnp.where(asked, losses, 0.0).sum(), asked.sum().astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _surprise(
    logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"], smoothing: float
) -> Float[Array, "*shape"]:
    """-Σ target · log softmax(logits) in float32, with the gradient softmax(logits) - target written in one pass."""
    return _surprise_forward(logits, labels, smoothing)[0]


def _surprise_forward(logits, labels, smoothing):
    wide = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(wide, labels[..., None], axis=-1)[..., 0]
    normalizer = jax.nn.logsumexp(wide, axis=-1)
    if smoothing:
        chosen = (1 - smoothing) * chosen + smoothing * wide.mean(axis=-1)
    return normalizer - chosen, (logits, labels, normalizer)


def _surprise_backward(smoothing, saved, gradient):
    logits, labels, normalizer = saved
    softmax = jnp.exp(logits.astype(jnp.float32) - normalizer[..., None])
    target = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / logits.shape[-1]
    return (gradient[..., None] * (softmax - target)).astype(logits.dtype), None


_surprise.defvjp(_surprise_forward, _surprise_backward)


def two_classes(logits: Float[Array, "*places classes"]) -> Float[Array, "*places classes"]:
    """`logits`, or `ObjectiveError` where they are not of two classes: the length of a text would do for any class."""
    if logits.shape[-1] != 2:
        raise ObjectiveError(f"logits of shape {logits.shape}: expected two classes")
    return logits


def accuracy(logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"], among: int = 1) -> Pair:
    """`(sum, weight)` of the places where the label has one of the `among` highest scores, over those not `IGNORED`."""
    asked = labels != IGNORED
    place = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    label = jnp.where(asked, labels, 0)[..., None]
    chosen = jnp.take_along_axis(logits, label, axis=-1)
    # The same as argmax(logits) == labels, of several highest the first, but a reduction that vectorises on CPUs too.
    no_higher = (chosen > logits) | ((chosen == logits) & (label <= place))
    right = asked & (jnp.all(no_higher, axis=-1) if among == 1 else (~no_higher).sum(axis=-1) < among)
    return right.sum().astype(jnp.float32), asked.sum().astype(jnp.float32)
