"""`lacuna predict`: ask a model."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.commands import inputs
from experiments.commands.generate import Rules, spelled_out
from experiments.experiment import ExperimentError, load_file
from inference import tasks
from inference.pipeline import Pipeline, pipeline
from inference.task import Task
from inference.writing import Writing
from models import hub
from models.config import ModelError, nearest
from training.progress import counting, working


@dataclasses.dataclass(frozen=True)
class Options:
    """Ask a model: `lacuna predict fill-mask "The capital of France is [MASK]." --model runs/bert-demo/model`.

    A line of JSON is printed for each input, or what the task says. Where models of several sorts answer it, --help beside
    --model says what the task can be set to for that one.

    Attributes:
        task: one of those named above; or a Python file that defines one, FILE[:class].
        text: inputs: texts, the files of pictures or recordings, questions, each with its context behind it; or - for the lines
            of standard input.
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
        file: a file with an input in each line: a text (.txt), a JSON object (.jsonl), or fields whose names the first line
            has (.tsv), such as question and context.
        format: of the file where its name does not say so, and of standard input.
        draw: folder for pictures of the answers, where these are boxes, masks or depth.
    """

    task: tyro.conf.Positional[str]
    text: tyro.conf.Positional[tuple[str, ...]] = ()
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")] = dataclasses.field(kw_only=True)
    file: Path | None = None
    format: inputs.Form | None = None
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None


def main(arguments: list[str]) -> None:
    name, rest = (arguments[0], arguments[1:]) if arguments and not arguments[0].startswith("-") else ("", arguments)
    task = in_file(name) if ".py" in name else tasks.named(name) if name else None
    if task is not None:
        task = suited(task, rest)
        program = f"lacuna predict {name}"
        task, rest = tyro.cli(
            type(task), default=task, args=rest, prog=program, return_unknown_args=True, add_help=False
        )
        if {"-h", "--help"} & set(rest):
            tyro.extras.get_parser(type(task), default=task, prog=program, add_help=False).print_help()
        if isinstance(task, Writing):
            task, rest = ruled(task, rest, program)
        rest = [name, *rest]
    described = f"{Options.__doc__.partition(chr(10))[0]}\n\nTasks: {', '.join(tasks.known())}; each has a --help."
    options, unknown = tyro.cli(
        Options, args=rest, prog="lacuna predict", description=described, return_unknown_args=True
    )
    if unknown or task is None:
        raise ExperimentError(refusal(task, unknown))
    lines = asked(task, options)
    with contextlib.ExitStack() as stack:
        if task.counted and options.text not in ((), ("-",)):
            lines = list(lines)
            total = sum(task.size(given) for _, given in lines)
            task = task.watched(stack.enter_context(counting(task.counted, total)))
        with working(f"opening {options.model}"):
            ask = pipeline(task, options.model)
        for answer in inputs.answered(answering(ask, options.draw), lines):
            print(task.printed(answer), flush=True)


def suited(task: Task, arguments: list[str]) -> Task:
    """The task as the model that is named wants it asked, whose settings may be others; unchanged where none can be read yet."""
    for number, argument in enumerate(arguments):
        named, _, value = argument.partition("=")
        if named == "--model":
            value = value or next(iter(arguments[number + 1 :]), "")
            with contextlib.suppress(ModelError):  # which opening it says in its turn
                return task.suited_to(hub.outline(value))
    return task


def answering(ask: Pipeline, draw: Path | None) -> Callable[[list[Any], int], list[Any]]:
    """The answers to inputs of which the first has a number, drawn where there is a folder for it."""

    def answers(given: list[Any], first: int) -> list[Any]:
        found = []
        for number, answer in enumerate(ask.stream(given, first)):
            if draw is not None:
                from experiments.show.answers import write_drawn

                write_drawn(draw, first + number, given[number], answer)
            found.append(answer)
        return found

    return answers


def ruled(task: Writing, arguments: list[str], program: str) -> tuple[Writing, list[str]]:
    """The task that writes by the flags of `lacuna generate`, and the other arguments."""
    arguments = spelled_out(arguments)
    rules, rest = tyro.cli(Rules, args=arguments, prog=program, return_unknown_args=True, add_help=False)
    if {"-h", "--help"} & set(rest):
        tyro.extras.get_parser(Rules, prog=program, add_help=False).print_help()
    return task.changed(**{name: value for name, value in vars(rules).items() if value is not None}), rest


def asked(task: Task, options: Options) -> Iterator[inputs.Line]:
    """The inputs, with where they stand."""
    if bool(options.text) == bool(options.file):
        raise ExperimentError(
            "give inputs, or - for standard input, or a --file of them" + " alone" * bool(options.text)
        )
    if options.file:
        return inputs.of_file(options.file, options.format, task.fields)
    if options.text == ("-",):
        return inputs.of_standard_input(options.format, task.fields)
    return (("", given) for given in task.inputs(options.text))


def in_file(reference: str) -> Task:
    """The task that `FILE[:class]` names, its first where unnamed."""
    path, _, name = reference.partition(":")
    known = {task.__name__: task for task in tasks.in_module(load_file(path, "task", "inference/tasks/fill_mask.py"))}
    if not known:
        raise ExperimentError(f"{path} has no class that inherits from `inference.task.Task`")
    if name and name not in known:
        raise ExperimentError(f"{path} has no task {name!r}: {nearest(name, list(known))}")
    return known[name or next(iter(known))]()


def refusal(task: Task | None, unknown: list[str]) -> str:
    """Why a command cannot be obeyed."""
    if task is None:
        return "the first argument of `lacuna predict` is a task, such as fill-mask"
    return f"{task.name} has no {unknown[0]}; `lacuna predict {task.name} --help` says what it has"
