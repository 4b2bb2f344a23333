"""Task pipelines: from text or pictures to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("fill-mask", "runs/bert-demo/model")
ask("The capital of France is [MASK].")
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inference import fields, tasks
from inference.generation import writes_anew
from inference.readers.reader import Reader
from inference.task import Task
from models import hub
from models.config import ModelError


def writing_task(folder: str | Path) -> str:
    """The task of the model in `folder` that has it write: going on with a text, or writing another."""
    return "text2text-generation" if writes_anew(hub.outline(folder)) else "text-generation"


def pipeline(task: str | Task, model: str | Path) -> "Pipeline":
    """A function from an input of the task (or a list of them) to the answer of the model in a folder (or a list of them).

    A picture is a path, the bytes of a file, or an array uint8 [height, width, 3]; an input of several texts is a tuple, as
    (question, context), or a dictionary, or these as keywords. A translation may name its languages
    (`translation_fr_XX_to_de_DE`), as the model calls them. The function takes the task's settings by name.

    Args:
        model: a checkpoint folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: unknown task or language, a folder that is no checkpoint, or a model that does not take or give what the
            task wants.
        DataError: a folder does not say how pictures are prepared; later, a picture cannot be read.
    """
    asked, task = (task.name, task) if isinstance(task, Task) else (task, tasks.named(task))
    folder = hub.checkpoint_folder(model)
    model, variables = hub.load(folder)
    task = task.suited_to(model)
    try:
        task.check(model)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    reader = task.reader.open(model, variables, folder, asked)
    task.prepare(reader)
    return Pipeline(task, reader)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A task, asked of a model."""

    task: Task
    reader: Reader

    def __call__(self, inputs: Any = None, **settings: Any) -> Any:
        """The answer to one input, or a list of answers to several.

        Args:
            inputs: one, or a list or any other iterable of them.
            settings: of the task; and the fields of an input, where it is not given as one.
        """
        names = [field.name for field in self.task.fields]
        if inputs is None:
            inputs = fields.rows({name: settings.pop(name) for name in names if name in settings}, self.task.fields)
        if self.task.is_one(inputs, self.reader):
            return next(self.stream([inputs], **settings))
        given = list(inputs) if isinstance(inputs, Iterable) else [inputs]
        if not given:
            raise ModelError(f"{self.task.name}: no {self.task.what or self.reader.what} came")
        return list(self.stream(given, **settings))

    def stream(self, inputs: Iterable[Any], first: int = 0, **settings: Any) -> Iterator[Any]:
        """The answers to several inputs, as soon as a block of them is answered.

        Args:
            first: place of the first of these in a longer list.
        """
        task = self.task.changed(**settings)
        given = [task.accepted(one, self.reader) for one in inputs]
        size = task.block or self.reader.block
        for begin in range(0, len(given), size):
            yield from task.answers(self.reader, given[begin : begin + size], first=first + begin)
