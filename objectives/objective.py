"""The contract of an objective: pure functions that meet models and data through names.

    corrupt(key, example) -> example      what the model sees and is asked: one example, static shapes, vmapped
    loss(outputs, batch) -> Losses        {name: (sum, weight)}: sums, never means; the trainer divides once

A loss that is no ratio of two sums defines two functions in the place of `loss`:

    sums(outputs, batch) -> Sums          any named sums over the examples of a batch
    losses(totals) -> {name: scalar}      what is minimised, a smooth function of their totals over the global batch

The randomness of an example is its key, `fold_in(seed, i)` for the i-th example of the run, so what a model is fed does
not depend on batches, devices, loader workers or restarts. The weight of a `loss` may depend on the batch alone, not on the
outputs. `sums` are not so restricted: with micro-batches they cost one more forward pass.
"""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, Key

Example = dict[str, Array]
Pair = tuple[Float[Array, ""], Float[Array, ""]]
Losses = dict[str, Pair]
Sums = dict[str, Any]
"""Named trees of float arrays, each a sum over the examples of a batch."""


@flax.struct.dataclass
class Targets:
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


def ratio(amount: Any, weight: Any) -> Array:
    """`amount / weight`, and 0, with a gradient of 0, where nothing is asked and the weight is 0."""
    asked = weight != 0
    return jnp.where(asked, amount / jnp.where(asked, weight, 1), 0.0)


class ObjectiveError(ValueError):
    """An objective that does not fit its model or its data, explained in one sentence."""


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
        unprojected: whether scores of a vocabulary that are many may come as `VocabularyScores`, of which `judged` takes what
            `loss` and `metrics` ask.
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
    unprojected: ClassVar[bool] = False

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

    def _check_fractions(self, *names: str) -> None:
        """Raise `ObjectiveError` where one of these settings is none."""
        for name in names:
            if not 0 <= vars(self)[name] <= 1:
                raise ObjectiveError(f"{name}={vars(self)[name]}: a fraction must lie in [0, 1]")

    def check_config(self, config: Any) -> None:
        """Raise `ObjectiveError` where a field of `agrees` and the model's config say two things."""
        for ours, its in self.agrees.items():
            own = getattr(self, ours)
            value = vars(config).get(its, own)
            if own != value:
                raise ObjectiveError(f"{self!r} and the model must agree: {ours}={own}, and its {its} is {value}")

    def length_read(self, length: int) -> int:
        """How many tokens of raw text an example needs for a model that reads `length`."""
        return length

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """One example as the model is to see it, with what it is asked."""
        return example

    def judged(self, outputs: Mapping[str, Any], batch: Example) -> Mapping[str, Any]:
        """Outputs as `loss` and `metrics` take them, which both would otherwise compute the same of."""
        return outputs

    def loss(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        """What to minimise: for each name a sum over the batch and its weight.

        Raises:
            ObjectiveError: this objective has none of that form.
        """
        raise ObjectiveError(f"{type(self).__name__} defines no `loss` of sums and weights")

    @property
    def ratios(self) -> bool:
        """Whether each loss is a sum over its weight, as `loss` gives them."""
        return type(self).sums is Objective.sums

    def sums(self, outputs: Mapping[str, Any], batch: Example) -> Sums:
        """Of what `losses` is a function: sums over the examples of a batch, each of the same shape whatever the batch's."""
        return self.loss(outputs, batch)

    def losses(self, totals: Sums) -> dict[str, Float[Array, ""]]:
        """What to minimise, from the totals of `sums` over the global batch."""
        return {name: ratio(amount, weight) for name, (amount, weight) in totals.items()}

    def metrics(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        """What else to watch, in the same form."""
        return {}

    def targets(self, outputs: Mapping[str, Any], batch: Example) -> dict[str, Targets]:
        """For each loss that asks for one of several classes what is right, which gives it a baseline in reports."""
        return {}

    def output(self, outputs: Mapping[str, Any], index: int = 0) -> Any:
        """The model's output for the `index`-th entry of `asks`."""
        return outputs[next(name for name in self.asks[index] if name in outputs)]
