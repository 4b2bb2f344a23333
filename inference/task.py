"""What a task is: the inputs that it reads, the outputs that it asks for, and how these are an answer.

A file of `inference/tasks` holds one. A task of your own is a file anywhere: `lacuna predict my_task.py INPUT… --model FOLDER`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from inference.readers.reader import Output, Reader
from inference.readers.text import TextReader
from models.config import ModelError, nearest
from models.model import Model

__all__ = ["Output", "Task"]


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to ask a model for. Its settings are fields, and so flags.

    A subclass sets `name` and `asks` and writes `answer`.

    Attributes:
        name: what it is called on the command line and by `pipeline`.
        reader: what makes the model's inputs.
        takes: inputs that the model must take.
        asks: outputs that it must give.
        causal: whether the model may see only what stands before a place (true), must see both sides (false), or either.
        one: what one input may come as; what the reader reads where it is empty.
        what: one input, in words; the reader's where it is empty.
        example: a command that shows it, with `{model}` for the folder.
    """

    name: ClassVar[str]
    reader: ClassVar[type[Reader]] = TextReader
    takes: ClassVar[tuple[str, ...]] = ("input_ids",)
    asks: ClassVar[tuple[Output, ...]] = ()
    causal: ClassVar[bool | None] = None
    one: ClassVar[tuple[type, ...]] = ()
    what: ClassVar[str] = ""
    example: ClassVar[str] = ""

    @classmethod
    def of_name(cls, name: str) -> "Task | None":
        """The task that is called so, `None` where that is another one."""
        return cls() if name == cls.name else None

    def check(self, model: Model) -> None:
        """Raise `ModelError` where the model lacks an input or output; nothing is computed."""
        name, inputs = type(model).__name__, model.inputs
        for wanted in self.takes:
            if wanted not in inputs:
                raise ModelError(
                    f"{self.name} gives {wanted}, which {name} does not take; it takes {', '.join(inputs)}"
                )
        if self.causal is not None and self.causal != model.causal:
            sees = "what stands before a token alone" if self.causal else "both sides of a token"
            raise ModelError(f"{self.name} takes a model that sees {sees}, and {name} does not")
        outputs, sizes = abstract(model, self.takes)
        for ask in self.asks:
            if not any(fits(outputs[wanted], ask, sizes) for wanted in ask.names if wanted in outputs):
                called = {size: axis for axis, size in sizes.items()}
                given = (
                    f"{output} ({', '.join(str(called.get(size, size)) for size in shape[1:])})"
                    for output, shape in outputs.items()
                )
                raise ModelError(f"{self.name} asks for {ask}; {name} gives {', '.join(given)}")

    def prepare(self, reader: Any) -> None:
        """Raise `ModelError` where the folder lacks something else that the task needs."""

    def inputs(self, words: Sequence[str]) -> list[Any]:
        """The inputs that stand on a command line."""
        return list(words)

    def read(self, reader: Any, given: Sequence[Any]) -> list[Any]:
        """Each input as it is made ready for the model; `ModelError` where it cannot be asked."""
        return reader.read(given)

    def answers(self, reader: Any, given: Sequence[Any], first: int = 0) -> list[Any]:
        """An answer for each input.

        Args:
            first: place of the first of these in a longer list.
        """
        read = self.read(reader, given)
        outputs = reader.outputs(read, self.asks)
        return [self.answer(reader, *example) for example in zip(given, read, outputs, strict=True)]

    def answer(self, reader: Any, given: Any, read: Any, outputs: dict[str, np.ndarray]) -> Any:
        """The answer for one input.

        Args:
            given: the input as it came.
            read: as the reader made it ready: for text an encoding of `tokenizers`, for a picture its pixels.
            outputs: those asked for, by their first names, without padding.
        """
        raise NotImplementedError

    def changed(self, **settings: Any) -> "Task":
        """The task with other settings."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in settings:
            if name not in known:
                raise ModelError(f"{self.name} has no setting {name!r}: {nearest(name, known)}")
        return dataclasses.replace(self, **settings)


@functools.lru_cache(maxsize=8)
def abstract(model: Model, takes: tuple[str, ...]) -> tuple[dict[str, tuple[int, ...]], dict[str, int | None]]:
    """Shapes of what the model gives for one blank example of these inputs, and the sizes of the axes that have names.

    It is given two labels more than it has, so that they are never as many as the example's tokens or choices, or as the
    two answers of a head whose answers are no labels.
    """
    config, sizes = model.config, dict.fromkeys(("tokens", "labels", "vocabulary"))
    sizes["vocabulary"] = config.vocab_size
    if config.labels:
        config = dataclasses.replace(config, labels=(*config.labels, "one more", "another"))
        sizes["labels"] = len(config.labels)
    model = model.clone(config=config)
    inputs = {name: value for name, value in model.blank().items() if name in takes}
    if "input_ids" in inputs:
        sizes["tokens"] = inputs["input_ids"].shape[-1]
    outputs, _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), **inputs))
    return {name: x.shape for name, x in outputs.items() if isinstance(x, jax.ShapeDtypeStruct)}, sizes


def fits(shape: tuple[int, ...], ask: Output, sizes: dict[str, int | None]) -> bool:
    """Whether an output of this shape, of one example, has the axes that are asked for."""
    axes = ask.axes.split()
    return (
        len(shape) == 1 + len(axes)
        and shape[0] == 1
        and all(sizes.get(axis, size) == size for axis, size in zip(axes, shape[1:], strict=True))
    )
