"""The contract of an objective: two pure functions that meet models and data through names.

    corrupt(key, example) -> example     what the model sees and is asked: one example, static shapes, vmapped
    loss(outputs, batch) -> Losses       {name: (sum, weight)}: sums, never means; the trainer divides once

The randomness of an example is its key, `fold_in(seed, i)` for the i-th example of the run, so what a model is fed does
not depend on batches, devices, loader workers or restarts. A loss's *weight* may depend on the batch alone, not on the
outputs: the trainer adds the weights of the whole global batch before it differentiates, so that a gradient is the same
however the batch is split.
"""

import copy
import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, Int, Key

Example = dict[str, Array]
Pair = tuple[Float[Array, ""], Float[Array, ""]]
Losses = dict[str, Pair]


@flax.struct.dataclass
class Answers:
    """What is right where a loss asks for one of several classes, to know what guessing without looking would score.

    Attributes:
        labels: integers, `IGNORED` where nothing is asked.
        classes: how many there are.
        accuracy: the metric that counts how many were found, where there is one.
        smoothing: of the labels (see `cross_entropy`).
        factor: what the loss is multiplied by.
    """

    labels: Any
    classes: int = flax.struct.field(pytree_node=False)
    accuracy: str = flax.struct.field(pytree_node=False, default="")
    smoothing: float = flax.struct.field(pytree_node=False, default=0.0)
    factor: float = flax.struct.field(pytree_node=False, default=1.0)


class ObjectiveError(ValueError):
    """An objective that does not fit its model or its data, said in one sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
    """A vocabulary that is equal to another one, and has its hash, where both say the same."""

    vocabulary: Any

    @functools.cached_property
    def content(self) -> Any:
        return _hashable(self.vocabulary)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Binding):
            return NotImplemented
        return self.vocabulary is other.vocabulary or self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


def _hashable(value: Any) -> Any:
    """What `value` holds, arrays and objects with attributes too, as something that compares and hashes by it."""
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(_hashable(item) for item in value)
    if isinstance(value, Mapping):
        return frozenset((_hashable(key), _hashable(item)) for key, item in value.items())
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        return type(value).__qualname__, _hashable(vars(value))
    return value


@dataclasses.dataclass(frozen=True)
class Objective:
    """Base of all objectives: a frozen dataclass of settings, with the names by which it meets the rest.

    Attributes:
        reads: what `corrupt` wants to find in an example.
        writes: what `corrupt` adds to it or replaces in it.
        takes: what a model must take of it: the question makes no sense to one that would leave it out.
        causal: whether what is asked at a place comes behind it, where a model that looks ahead would see the answer.
        asks: for each output that `loss` reads, the names under which a model may give it.
        agrees: for each field that must be equal to one of the model's config, where that has it, the name there.
        units: of losses, by their names, for tables and curves; where one has none, none is shown.
        needs: what it takes from the vocabulary; one without is refused when they are bound.
        overlap: tokens that a piece of packed text shares with the next: 1 where the first is read and never asked.
        arranges: whether `corrupt` lays out the text that others then corrupt; in a `Sum` those come first.
        binding: what `bind` bound it to, by which objectives compare and hash, too. It comes with the data and is no
            setting: it has no flag and is not printed.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    causal: ClassVar[bool] = False
    asks: ClassVar[tuple[tuple[str, ...], ...]] = ()
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType({})
    units: ClassVar[Mapping[str, str]] = MappingProxyType({})
    needs: ClassVar[tuple[str, ...]] = ()
    overlap: ClassVar[int] = 0
    arranges: ClassVar[bool] = False

    binding: Annotated[Binding | None, tyro.conf.Suppress] = dataclasses.field(default=None, repr=False, kw_only=True)

    @property
    def vocabulary(self) -> Any:
        """What `bind` bound it to; `None` before."""
        return None if self.binding is None else self.binding.vocabulary

    def bind(self, vocabulary: Any) -> "Objective":
        """This objective, knowing the vocabulary that its examples are written in.

        That has `size`, `special_ids`, `starts_word`, what there is of `pad`, `bos`, `eos`, `cls`, `sep`, `mask` and
        `sentinels` (ids in the order of their use), and the `framing` of texts.

        Raises:
            ObjectiveError: it lacks one of `needs`.
        """
        missing = [name for name in self.needs if getattr(vocabulary, name, None) in (None, ())]
        if missing:
            raise ObjectiveError(
                f"{self!r} needs {', '.join(self.needs)} of its vocabulary, which has no {', '.join(missing)}:"
                " choose a tokenizer or data that do"
            )
        bound = copy.copy(self)
        object.__setattr__(bound, "binding", Binding(vocabulary))
        return bound

    def check_config(self, config: Any) -> None:
        """Raise `ObjectiveError` where a field of `agrees` and the model's config say two things."""
        for ours, theirs in self.agrees.items():
            own, found = getattr(self, ours), getattr(config, theirs, getattr(self, ours))
            if own != found:
                raise ObjectiveError(f"{self!r} and the model must agree: {ours}={own}, and its {theirs} is {found}")

    def length_read(self, length: int) -> int:
        """How many tokens of raw text an example needs for a model that reads `length`."""
        return length

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """One example as the model is to see it, with what it is asked."""
        return example

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """What to minimise: for each name a sum over the batch and its weight."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """What else to watch, in the same form."""
        return {}

    def answers(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Answers]:
        """For each loss that asks for one of several classes what is right, which gives it a baseline in reports."""
        return {}

    def output(self, outputs: Mapping[str, Array], index: int = 0) -> Array:
        """The model's output for the `index`-th entry of `asks`."""
        return outputs[next(name for name in self.asks[index] if name in outputs)]


@dataclasses.dataclass(frozen=True, init=False)
class Sum(Objective):
    """Several objectives on the same forward pass, their losses added: `Sum(MaskedLM(), NextSentence())`.

    Each part draws from a stream of its own, so that adding or reordering parts changes nothing in the others. A part may
    corrupt what one that `arranges` has laid out. Otherwise no part may change what another one reads or writes.

    Raises:
        ObjectiveError: a part overwrites what is another's (where `reads` and `writes` say so at once, else when the parts
            meet an example), or two of them give a loss or a metric of one name.
    """

    parts: tuple[Objective, ...] = ()

    def __init__(
        self,
        *objectives: Objective,
        parts: tuple[Objective, ...] = (),
        binding: Annotated[Any, tyro.conf.Suppress] = None,
    ):
        object.__setattr__(self, "parts", tuple(objectives) + tuple(parts))
        object.__setattr__(self, "binding", binding)
        if not self.parts:
            raise ObjectiveError("a Sum needs at least one objective")
        names = [type(part).__name__ for part in self.parts]
        if len(set(names)) < len(names):
            raise ObjectiveError(f"a Sum of {', '.join(names)}: the same objective twice would count its loss once")
        self._check_overwriting([set(part.writes) for part in self.in_order], set(self.reads))

    def _check_overwriting(self, changed: Sequence[set[str]], given: set[str]) -> None:
        """Raise `ObjectiveError` where a part changes what another one reads or has written.

        Args:
            changed: names that each part, in their order, adds to an example or changes in it.
            given: names that the example has before.
        """
        writers: dict[str, Objective] = {}
        for part, names in zip(self.in_order, changed, strict=True):
            for name in sorted(names):
                writer = writers.get(name)
                if writer is not None and not (writer.arranges and not part.arranges and name in part.reads):
                    raise ObjectiveError(
                        f"{part!r} overwrites {name!r}, which {writer!r} has written: they cannot be added up, as both"
                        " would be asked about the same"
                    )
                readers = [other for other in self.parts if other is not part and name in other.reads]
                reader = next((other for other in readers if other.arranges == part.arranges), None)
                if writer is None and reader is not None and name in given:
                    raise ObjectiveError(
                        f"{part!r} overwrites {name!r}, which {reader!r} reads: they cannot be added up, as that one would"
                        " be asked about what it has never seen"
                    )
                writers[name] = part

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
        return self._joined("writes")

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._joined("takes")

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return any(part.causal for part in self.parts)

    @property
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        return tuple(names for part in self.parts for names in part.asks)

    @property
    def agrees(self) -> Mapping[str, str]:  # type: ignore[override]
        return {}  # fields are the parts', which `check_config` asks

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        return {name: unit for part in self.parts for name, unit in part.units.items()}

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._joined("needs")

    @property
    def overlap(self) -> int:  # type: ignore[override]
        return max(part.overlap for part in self.parts)

    @property
    def arranges(self) -> bool:  # type: ignore[override]
        return any(part.arranges for part in self.parts)

    def _joined(self, attribute: str) -> tuple[str, ...]:
        """The names under an attribute of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in getattr(part, attribute)))

    def check_config(self, config: Any) -> None:
        super().check_config(config)
        for part in self.parts:
            part.check_config(config)

    def bind(self, vocabulary: Any) -> "Sum":
        parts = tuple(part.bind(vocabulary) for part in self.parts)
        return dataclasses.replace(self, parts=parts, binding=Binding(vocabulary))

    def length_read(self, length: int) -> int:
        return max(part.length_read(length) for part in self.parts)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        given, changed = set(example), []
        for part in self.in_order:
            before = example
            example = part.corrupt(jax.random.fold_in(key, zlib.crc32(type(part).__name__.encode())), example)
            changed.append({name for name, value in example.items() if value is not before.get(name)})
        self._check_overwriting(changed, given)
        return example

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return self._each("loss", lambda part: part.loss(outputs, batch))

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return self._each("metric", lambda part: part.metrics(outputs, batch))

    def answers(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Answers]:
        return self._each("answer", lambda part: part.answers(outputs, batch))

    def _each(self, what: str, give: Callable[[Objective], dict[str, Any]]) -> dict[str, Any]:
        """What all parts give, under names of which no two are alike."""
        given: dict[str, Any] = {}
        for part in self.parts:
            for name, value in give(part).items():
                if name in given:
                    raise ObjectiveError(
                        f"two parts of {self!r} give a {what} {name!r}, of which one would be lost: rename one"
                    )
                given[name] = value
        return given


@dataclasses.dataclass(frozen=True)
class Around(Objective):
    """Base of an objective around another one, which it is in all that it does not define itself.

    Attributes:
        around: the name of the field with the other one.
    """

    around: ClassVar[str] = "task"

    @property
    def inner(self) -> Objective:
        return getattr(self, self.around)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.reads

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.writes

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.takes

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return self.inner.causal

    @property
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        return self.inner.asks

    @property
    def agrees(self) -> Mapping[str, str]:  # type: ignore[override]
        return {}  # fields are the other's, which `check_config` asks

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        return self.inner.units

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.needs

    @property
    def overlap(self) -> int:  # type: ignore[override]
        return self.inner.overlap

    @property
    def arranges(self) -> bool:  # type: ignore[override]
        return self.inner.arranges

    def check_config(self, config: Any) -> None:
        super().check_config(config)
        self.inner.check_config(config)

    def bind(self, vocabulary: Any) -> "Around":
        return dataclasses.replace(self, **{self.around: self.inner.bind(vocabulary)}, binding=Binding(vocabulary))

    def length_read(self, length: int) -> int:
        return self.inner.length_read(length)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        return self.inner.corrupt(key, example)

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return self.inner.loss(outputs, batch)

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return self.inner.metrics(outputs, batch)

    def answers(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Answers]:
        return self.inner.answers(outputs, batch)


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


def check_reads(objective: Objective, example: Iterable[str], data: str) -> None:
    """Raise `ObjectiveError` where `data`, whose examples have these names, lacks what `objective` reads."""
    for wanted in objective.reads:
        if wanted not in example:
            raise ObjectiveError(
                f"{objective!r} reads {wanted!r}, which {data} does not give; it gives {', '.join(sorted(example))}"
            )


def check_takes(objective: Objective, inputs: Iterable[str], causal: bool, model: str) -> None:
    """Raise `ObjectiveError` where `model`, which takes `inputs`, is of a kind that `objective` cannot be asked of.

    Args:
        causal: whether an output of the model depends on nothing behind its place.
    """
    for wanted in objective.takes:
        if wanted not in inputs:
            raise ObjectiveError(
                f"{objective!r} feeds {wanted!r}, which {model} does not take; it takes {', '.join(inputs)}"
            )
    if objective.causal and not causal:
        raise ObjectiveError(f"{objective!r} asks for what comes next, which {model} sees: it looks ahead")


def check_asks(objective: Objective, outputs: Iterable[str], model: str) -> None:
    """Raise `ObjectiveError` where `model`, which returns `outputs`, lacks what `objective` asks for."""
    for names in objective.asks:
        if not set(outputs) & set(names):
            raise ObjectiveError(
                f"{objective!r} asks for {' or '.join(names)}, which {model} does not return;"
                f" it returns {', '.join(sorted(outputs))}"
            )
