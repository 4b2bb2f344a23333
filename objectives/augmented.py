"""An objective on examples that are made ready on the device, and changed by chance, before the objective has its turn."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Key

from objectives.objective import Example, Objective
from objectives.sum import Wrapper

STREAM = zlib.crc32(b"Augmented")


@runtime_checkable
class Augment(Protocol):
    """What changes an example, as `data.images.augmentation.Augmentation` and `data.audio.spectrograms.Spectrograms`.

    Attributes:
        reads: what it wants to find in an example.
        writes: what it adds, or replaces.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def mixes(self) -> bool:
        """Whether another example is mixed in, whose arrays are called `other_…`."""
        ...

    def __call__(self, key: Key[Array, ""], example: Example, training: bool) -> Example:
        """The example as the objective is to have it."""
        ...


@dataclasses.dataclass(frozen=True)
class Augmented(Wrapper):
    """`augment`, with a stream of chance of its own, and then the objective, as if it were alone.

    Attributes:
        training: whether to augment; otherwise `augment` only makes of an example what a model can read.
    """

    wrapped: ClassVar[str] = "objective"

    objective: Objective
    augment: Augment
    training: bool = True

    @property
    def others(self) -> tuple[str, ...]:
        """What is read of the example that is mixed in: the same as of the first."""
        return tuple(f"other_{name}" for name in self._first) if self.training and self.augment.mixes else ()

    @property
    def _first(self) -> tuple[str, ...]:
        given = (name for name in self.objective.reads if name not in self.augment.writes)
        return tuple(dict.fromkeys((*self.augment.reads, *given)))

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self._first, *self.others)

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        made = (*self.augment.writes, "mix") if self.others else self.augment.writes
        return tuple(dict.fromkeys((*made, *self.objective.writes)))

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        example = self.augment(jax.random.fold_in(key, STREAM), example, self.training)
        return self.objective.corrupt(key, example)

    def judged(self, outputs: Mapping[str, Any], batch: Example) -> Mapping[str, Any]:
        return self.objective.judged(outputs, batch)
