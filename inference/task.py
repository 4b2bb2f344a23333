"""What a task is: the inputs that it reads, the outputs that it asks for, and how these are an answer.

A file of `inference/tasks` holds one. A task of your own is a file anywhere: `lacuna predict my_task.py INPUT… --model FOLDER`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from inference.fields import Field, one_input
from inference.readers.reader import Output, Reader
from inference.readers.text import TextReader
from models.config import ModelError, nearest
from models.model import Model

__all__ = ["Field", "Output", "Task"]


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
        fields: names of the texts that are one input; empty where an input is no text.
        what: one input, in words; the reader's where it is empty.
        windowed: whether `read` makes a list of each input, and `answer` gets a list of outputs.
        block: inputs that `answers` gets at a time; as many as the reader's where it is 0.
        example: a command that shows it, with `{model}` for the folder.
        counted: what the size of an input is counted in; empty where inputs take about as long as each other.
    """

    name: ClassVar[str]
    reader: ClassVar[type[Reader]] = TextReader
    takes: ClassVar[tuple[str, ...]] = ("input_ids",)
    asks: ClassVar[tuple[Output, ...]] = ()
    causal: ClassVar[bool | None] = None
    fields: ClassVar[tuple[Field, ...]] = (Field("text"),)
    what: ClassVar[str] = ""
    windowed: ClassVar[bool] = False
    block: ClassVar[int] = 0
    example: ClassVar[str] = ""
    counted: ClassVar[str] = ""

    @classmethod
    def of_name(cls, name: str) -> "Task | None":
        """The task that is called so, `None` where that is another one."""
        return cls() if name == cls.name else None

    def suited_to(self, model: Model) -> "Task":
        """The task as this model is asked for it: the same, but where models of several sorts answer it in ways of their own."""
        return self

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
        needed = [field.name for field in self.fields if not field.optional] or [""]
        if len(words) % len(needed):
            raise ModelError(
                f"{self.name} takes {' and '.join(needed)} of each input, and {len(words)} text(s) came: one is missing"
            )
        return list(words[:: len(needed)] if len(needed) == 1 else zip(*[iter(words)] * len(needed), strict=True))

    def is_one(self, given: Any, reader: Any) -> bool:
        """Whether this is one input, not several."""
        if not self.fields:
            return isinstance(given, reader.types)
        return isinstance(given, str | Mapping) or (len(self.fields) > 1 and isinstance(given, tuple))

    def accepted(self, given: Any, reader: Any) -> Any:
        """One input as `read` is given it: a text, or a tuple of texts where a task has several fields.

        Raises:
            ModelError: it is no input of the task.
        """
        if not self.fields and isinstance(given, reader.types):
            return given
        return one_input(self.fields, given, f"{self.name} takes a {self.what or reader.what}")

    def read(self, reader: Any, given: Sequence[Any]) -> list[Any]:
        """Each input as it is made ready for the model; `ModelError` where it cannot be asked."""
        return reader.read(given)

    def answers(self, reader: Any, given: Sequence[Any], first: int = 0) -> list[Any]:
        """An answer for each input.

        Args:
            first: place of the first of these in a longer list.
        """
        read = self.read(reader, given)
        pieces = [(number, piece) for number, one in enumerate(read) for piece in (one if self.windowed else [one])]
        answers: list[Any] = [None] * len(given)
        waiting: dict[int, dict[int, Any]] = {}
        for place, outputs in reader.outputs([piece for _, piece in pieces], self.asks):
            number = pieces[place][0]
            waiting.setdefault(number, {})[place] = outputs
            if len(waiting[number]) == (len(read[number]) if self.windowed else 1):
                parts = [outputs for _, outputs in sorted(waiting.pop(number).items())]
                answers[number] = self.answer(reader, given[number], read[number], parts if self.windowed else parts[0])
        return answers

    def answer(self, reader: Any, given: Any, read: Any, outputs: dict[str, np.ndarray]) -> Any:
        """The answer for one input.

        Args:
            given: the input as it came.
            read: as the reader made it ready: for text an encoding of `tokenizers`, for a picture its pixels.
            outputs: those asked for, by their first names, without padding; a list of them where the task is `windowed`.
        """
        raise NotImplementedError

    def size(self, given: Any) -> float:
        """How much there is to do for an input, in `counted`; 0 where that is not known."""
        return 0.0

    def watched(self, on_progress: Callable[[float], Any]) -> "Task":
        """The task, telling how much of that has just been done."""
        return self

    def printed(self, answer: Any) -> str:
        """An answer as the command line prints it."""
        return json.dumps(answer, ensure_ascii=False, default=lambda x: x.tolist())

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
    sizes["choices"] = next(iter(model.blank().values())).shape[1] if model.choices else None
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
