"""Losses and metrics as sums and weights over the places that are asked."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.kernels.cross_entropy import negative_log_likelihood
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
    """`(sum, weight)` of -Σ target · log softmax(logits) in float32 or wider, over the places whose label is not `IGNORED`.

    The target is the label, of which `smoothing` is spread evenly over all classes, the label among them (Szegedy et al.,
    2015, arXiv 1512.00567, section 7; `torch.nn.CrossEntropyLoss(label_smoothing=...)`). With `shares` a place's loss is
    multiplied by its fraction; its weight is not.
    """
    asked = labels != IGNORED
    losses = negative_log_likelihood(logits, jnp.where(asked, labels, 0), smoothing)
    if shares is not None:
        losses *= shares
    return jnp.where(asked, losses, 0.0).sum(), asked.sum().astype(jnp.float32)


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
