"""The contract of an objective: two pure functions that meet models and data through names.

    corrupt(key, example) -> example     what the model sees and is asked: one example, static shapes, vmapped
    loss(outputs, batch) -> Losses       {name: (sum, weight)}: sums, never means; the trainer divides once

The randomness of an example is its key, `fold_in(seed, i)` for the i-th example of the run, so what a model is fed does
not depend on batches, devices, loader workers or restarts. A loss's *weight* may depend on the batch alone, not on the
outputs: the trainer adds the weights of the whole global batch before it differentiates, so that a gradient is the same
however the batch is split.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Example = dict[str, Array]
Pair = tuple[Float[Array, ""], Float[Array, ""]]
Losses = dict[str, Pair]


class ObjectiveError(ValueError):
    """An objective that does not fit its model or its data, said in one sentence."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """Base of all objectives: a frozen dataclass of settings, with the names by which it meets the rest.

    Attributes:
        reads: what `corrupt` wants to find in an example.
        writes: what `corrupt` adds to it or replaces in it.
        asks: for each output that `loss` reads, the names under which a model may give it.
        arranges: whether `corrupt` lays out the text that others then corrupt; in a `Sum` those come first.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    asks: ClassVar[tuple[tuple[str, ...], ...]] = ()
    arranges: ClassVar[bool] = False

    def bind(self, vocabulary: Any) -> "Objective":
        """This objective, knowing the vocabulary (`size`, `pad`, `cls`, `sep`, `mask`, `special_ids`, `starts_word`)."""
        return self

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """One example as the model is to see it, with what it is asked."""
        return example

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """What to minimise: for each name a sum over the batch and its weight."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """What else to watch, in the same form."""
        return {}

    def output(self, outputs: Mapping[str, Array], index: int = 0) -> Array:
        """The model's output for the `index`-th entry of `asks`."""
        return outputs[next(name for name in self.asks[index] if name in outputs)]


@dataclasses.dataclass(frozen=True, init=False)
class Sum(Objective):
    """Several objectives on the same forward pass, their losses added: `Sum(MaskedLM(), NextSentence())`.

    Each part draws from a stream of its own, so that adding or reordering parts changes nothing in the others.
    """

    parts: tuple[Objective, ...] = ()

    def __init__(self, *objectives: Objective, parts: tuple[Objective, ...] = ()):
        object.__setattr__(self, "parts", tuple(objectives) + tuple(parts))
        if not self.parts:
            raise ObjectiveError("a Sum needs at least one objective")
        names = [type(part).__name__ for part in self.parts]
        if len(set(names)) < len(names):
            raise ObjectiveError(f"a Sum of {', '.join(names)}: the same objective twice would count its loss once")

    @property
    def in_order(self) -> tuple[Objective, ...]:
        """The parts that arrange the text first, then those that corrupt it."""
        return tuple(sorted(self.parts, key=lambda part: not part.arranges))

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        missing, made = [], set()
        for part in self.in_order:
            missing += [name for name in part.reads if name not in made and name not in missing]
            made |= set(part.writes)
        return tuple(missing)

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(name for part in self.parts for name in part.writes))

    @property
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        return tuple(names for part in self.parts for names in part.asks)

    def bind(self, vocabulary: Any) -> "Sum":
        return type(self)(*(part.bind(vocabulary) for part in self.parts))

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        for part in self.in_order:
            example = part.corrupt(jax.random.fold_in(key, zlib.crc32(type(part).__name__.encode())), example)
        return example

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return {name: pair for part in self.parts for name, pair in part.loss(outputs, batch).items()}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return {name: pair for part in self.parts for name, pair in part.metrics(outputs, batch).items()}


IGNORED = -100
"""The label of a place that is not asked (as in `transformers`)."""


def cross_entropy(logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"]) -> Pair:
    """`(sum, weight)` of -log softmax(logits)[label] in float32, over the places whose label is not `IGNORED`."""
    asked = labels != IGNORED
    losses = _surprise(logits, jnp.where(asked, labels, 0))
    return jnp.where(asked, losses, 0.0).sum(), asked.sum().astype(jnp.float32)


@jax.custom_vjp
def _surprise(logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-log softmax(logits)[label] in float32, with the gradient softmax(logits) - onehot(label) written in one pass."""
    return _surprise_forward(logits, labels)[0]


def _surprise_forward(logits, labels):
    wide = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(wide, labels[..., None], axis=-1)[..., 0]
    normalizer = jax.nn.logsumexp(wide, axis=-1)
    return normalizer - chosen, (logits, labels, normalizer)


def _surprise_backward(saved, gradient):
    logits, labels, normalizer = saved
    softmax = jnp.exp(logits.astype(jnp.float32) - normalizer[..., None])
    onehot = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    return (gradient[..., None] * (softmax - onehot)).astype(logits.dtype), None


_surprise.defvjp(_surprise_forward, _surprise_backward)


def accuracy(logits: Float[Array, "*shape classes"], labels: Int[Array, "*shape"]) -> Pair:
    """`(sum, weight)` of the places where the label has the highest score, over those not `IGNORED`."""
    asked = labels != IGNORED
    place = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    label = jnp.where(asked, labels, 0)[..., None]
    chosen = jnp.take_along_axis(logits, label, axis=-1)
    # The same as argmax(logits) == labels, of several highest the first, but a reduction that vectorises on CPUs too.
    right = asked & jnp.all((chosen > logits) | ((chosen == logits) & (label <= place)), axis=-1)
    return right.sum().astype(jnp.float32), asked.sum().astype(jnp.float32)


def check_fit(objective: Objective, example: Iterable[str], outputs: Iterable[str], data: str, model: str) -> None:
    """Raise `ObjectiveError` where names do not meet: the data lacks what `objective` reads, the model what it asks.

    Args:
        example: names that the data source gives.
        outputs: names that the model returns.
        data, model: what to call the two in the sentence.
    """
    example, outputs = sorted(example), sorted(outputs)
    for wanted in objective.reads:
        if wanted not in example:
            raise ObjectiveError(
                f"{objective!r} reads {wanted!r}, which {data} does not give; it gives {', '.join(example)}"
            )
    for names in objective.asks:
        if not set(outputs) & set(names):
            raise ObjectiveError(
                f"{objective!r} asks for {' or '.join(names)}, which {model} does not return;"
                f" it returns {', '.join(outputs)}"
            )
