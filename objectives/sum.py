"""Several objectives as one, their losses added, and an objective that wraps another one."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import jax
import tyro
from jaxtyping import Array, Float, Key

from objectives.objective import Binding, Example, Losses, Objective, ObjectiveError, Sums, Targets


def of_each(attribute: str) -> property:
    """The names under an attribute of all parts, each once."""
    return property(lambda self: tuple(dict.fromkeys(name for part in self.parts for name in getattr(part, attribute))))


def of_any(attribute: str) -> property:
    """Whether an attribute of a part is true."""
    return property(lambda self: any(getattr(part, attribute) for part in self.parts))


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
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        return tuple(names for part in self.parts for names in part.asks)

    writes, takes, needs = map(of_each, ("writes", "takes", "needs"))
    causal, arranges = map(of_any, ("causal", "arranges"))
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType({})  # fields are the parts', which `check_config` asks

    @property
    def unprojected(self) -> bool:  # type: ignore[override]
        """Whether all parts can do without whole scores, and no two ask for the same in the first place."""
        names = [names[0] for names in self.asks]
        return all(part.unprojected for part in self.parts) and len(set(names)) == len(names)

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        return {name: unit for part in self.parts for name, unit in part.units.items()}

    @property
    def overlap(self) -> int:  # type: ignore[override]
        return max(part.overlap for part in self.parts)

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

    def judged(self, outputs: Mapping[str, Any], batch: Example) -> Mapping[str, Any]:
        for part in self.parts:
            outputs = part.judged(outputs, batch)
        return outputs

    @property
    def ratios(self) -> bool:
        return all(part.ratios for part in self.parts)

    def loss(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        return self._each("loss", lambda part: part.loss(outputs, batch))

    def sums(self, outputs: Mapping[str, Any], batch: Example) -> Sums:
        if self.ratios:
            return self.loss(outputs, batch)
        return {type(part).__name__: part.sums(outputs, batch) for part in self.parts}

    def losses(self, totals: Sums) -> dict[str, Float[Array, ""]]:
        if self.ratios:
            return super().losses(totals)
        return self._each("loss", lambda part: part.losses(totals[type(part).__name__]))

    def metrics(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        return self._each("metric", lambda part: part.metrics(outputs, batch))

    def targets(self, outputs: Mapping[str, Any], batch: Example) -> dict[str, Targets]:
        return self._each("answer", lambda part: part.targets(outputs, batch))

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


def of_inner(name: str) -> property:
    """An attribute that an objective has of the one that it wraps."""
    return property(lambda self: getattr(self.inner, name))


@dataclasses.dataclass(frozen=True)
class Wrapper(Objective):
    """Base of an objective that wraps another one, which it is in all that it does not define itself.

    Attributes:
        wrapped: the name of the field with the other one.
    """

    wrapped: ClassVar[str] = "task"

    @property
    def inner(self) -> Objective:
        return getattr(self, self.wrapped)

    reads, writes, takes, causal, asks = map(of_inner, ("reads", "writes", "takes", "causal", "asks"))
    units, needs, overlap, arranges = map(of_inner, ("units", "needs", "overlap", "arranges"))
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType({})  # fields are the other's, which `check_config` asks
    unprojected: ClassVar[bool] = False  # whoever wraps a loss may look at the scores, too

    def judged(self, outputs: Mapping[str, Any], batch: Example) -> Mapping[str, Any]:
        return outputs

    def check_config(self, config: Any) -> None:
        super().check_config(config)
        self.inner.check_config(config)

    def bind(self, vocabulary: Any) -> "Wrapper":
        return dataclasses.replace(self, **{self.wrapped: self.inner.bind(vocabulary)}, binding=Binding(vocabulary))

    def length_read(self, length: int) -> int:
        return self.inner.length_read(length)

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        return self.inner.corrupt(key, example)

    def loss(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        return self.inner.loss(outputs, batch)

    @property
    def ratios(self) -> bool:
        return self._has_losses or self.inner.ratios

    @property
    def _has_losses(self) -> bool:
        """Whether this objective makes losses of its own of the other one's."""
        return type(self).loss is not Wrapper.loss

    def sums(self, outputs: Mapping[str, Any], batch: Example) -> Sums:
        return self.loss(outputs, batch) if self._has_losses else self.inner.sums(outputs, batch)

    def losses(self, totals: Sums) -> dict[str, Float[Array, ""]]:
        return super().losses(totals) if self._has_losses else self.inner.losses(totals)

    def metrics(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        return self.inner.metrics(outputs, batch)

    def targets(self, outputs: Mapping[str, Any], batch: Example) -> dict[str, Targets]:
        return self.inner.targets(outputs, batch)
