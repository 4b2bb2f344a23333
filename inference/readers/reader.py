"""What a reader is: a model, and the way from what it is given to its outputs."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from models.model import Model


@dataclasses.dataclass(frozen=True)
class Output:
    """A model's output that a task asks for.

    Attributes:
        name: what it is called.
        axes: names of its axes for one example: `tokens`, `labels` (as many as the config's) and `vocabulary` have the sizes
            that these words say, others any.
        also: further names that it goes by.
    """

    name: str
    axes: str
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} ({', '.join(self.axes.split())})"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A model with its variables. A subclass is one modality.

    Attributes:
        what: one input, in a word.
        types: what one input may come as.
        block: inputs that are read at a time; a longer list is answered block by block.
    """

    model: Model
    variables: dict[str, Any]
    what: ClassVar[str]
    types: ClassVar[tuple[type, ...]]
    block: ClassVar[int] = 32

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "Reader":
        """The reader of a checkpoint folder.

        Args:
            task: name of what the model is asked for; a folder may have settings of it.
        """
        raise NotImplementedError

    def read(self, given: Sequence[Any]) -> list[Any]:
        """Each input as it is made ready for the model."""
        raise NotImplementedError

    def outputs(self, read: Sequence[Any], asks: tuple[Output, ...]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """For each input its number and {name: output} of those that are asked for, without padding; in any order."""
        raise NotImplementedError


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model: Model, asks: tuple[Output, ...], variables: Any, inputs: dict[str, Any]) -> dict[str, jax.Array]:
    """The outputs that are asked for, each under its first name. Compiled once for models that are equal."""
    outputs = model.apply(variables, **inputs)
    return {ask.name: next(outputs[name] for name in ask.names if name in outputs) for ask in asks}
