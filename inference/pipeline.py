"""Task pipelines: from text or pictures to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("fill-mask", "runs/bert-demo/model")
ask("The capital of France is [MASK].")
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference import tasks
from inference.generation import writes_anew
from inference.task import Task
from models import hub
from models.config import ModelError

TOGETHER = 32
"""Inputs that the model sees at a time: a longer list is answered piece by piece."""


def writing_task(folder: str | Path) -> str:
    """The task of the model in `folder` that has it write: going on with a text, or writing another."""
    return "text2text-generation" if writes_anew(hub.outline(folder)) else "text-generation"


def pipeline(task: str | Task, folder: str | Path) -> Callable[..., Any]:
    """A function from an input of the task (or a list of them) to the answer of the model in `folder` (or a list of them).

    A picture is a path, the bytes of a file, or an array uint8 [height, width, 3]; a question is a pair (question, context).
    `folder` may be a name on the Hugging Face hub. A translation may name its languages (`translation_fr_XX_to_de_DE`), as
    the model calls them. The function takes the task's settings by name.

    Raises:
        ModelError: unknown task or language, a folder that is no checkpoint, or a model that does not take or give what the
            task wants.
        DataError: a folder does not say how pictures are prepared; later, a picture cannot be read.
    """
    asked, task = (task.name, task) if isinstance(task, Task) else (task, tasks.named(task))
    folder = hub.checkpoint_folder(folder)
    model, variables = hub.load(folder)
    try:
        task.check(model)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    reader = task.reader.open(model, variables, folder, asked)
    task.prepare(reader)
    one, what = task.one or reader.types, task.what or reader.what

    def answer(inputs: Any, **settings: Any) -> Any:
        several = not isinstance(inputs, one)
        given, chosen, answers = list(inputs) if several else [inputs], task.changed(**settings), []
        if not given:
            raise ModelError(f"{task.name}: no {what} came")
        for each in given:
            if not isinstance(each, one):
                raise ModelError(f"{task.name} takes a {what}, and {each!r:.60} came")
        for begin in range(0, len(given), TOGETHER):
            answers += chosen.answers(reader, given[begin : begin + TOGETHER], first=begin)
        return answers if several else answers[0]

    return answer
