"""The commands of `lacuna`, one file each, with a `main(arguments)`."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments.experiment import Experiment, ExperimentError, described, load
from objectives import KINDS, named
from training.processes import Processes, facts
from training.supervisor import Place, supervise

console = Console(stderr=True, soft_wrap=True, highlight=False)

PACKAGES = ("data", "evaluation", "experiments", "inference", "models", "objectives", "training")
"""The folders whose code must be the same in every process."""
BEFORE_FORMS = re.compile(r"--(?:phases\.(\d+)|data)\.(sequence-length|image-size|target-length)")
FORM_FIELDS = {"sequence-length": ("length", "source", "target"), "image-size": ("size",), "target-length": ("target",)}
"""What phases and data called the fields of forms before there were any."""


def supervised(options: Processes, file: str) -> None:
    """Where the command is to run as one process of several, run it so and exit; return where it runs here."""
    if Place.of_environment() is not None:
        return
    place = options.place()
    if place is not None:
        command = [sys.executable, "-m", "experiments.cli", *sys.argv[1:]]
        raise SystemExit(supervise(place, command, facts(PACKAGES, Path(file.partition(":")[0]))))


def option(arguments: list[str], name: str) -> tuple[str | None, list[str]]:
    """The last value of the flag `name`, and the arguments without it."""
    value, rest, left = None, [], iter(arguments)
    for argument in left:
        if argument == name:
            value = next(left, None)
            if value is None:
                raise ExperimentError(f"{name} wants a name behind it")
        elif argument.startswith(f"{name}="):
            value = argument.removeprefix(f"{name}=")
        else:
            rest.append(argument)
    return value, rest


def renamed(arguments: list[str], experiment: Experiment) -> list[str]:
    """The arguments with today's names of flags: before phases had forms, both texts of a pair had one length."""
    result, left = [], iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        before = BEFORE_FORMS.fullmatch(flag.replace("_", "-"))
        if before is None:
            result.append(argument)
            continue
        phases = [int(before[1])] if before[1] else range(len(experiment.phases))
        form = {field.name for field in dataclasses.fields(experiment.phases[0].form)}
        now = [f"--phases.{n}.form.{new}" for n in phases for new in FORM_FIELDS[before[2]] if new in form]
        if not now:
            raise ExperimentError(f"{flag}: {experiment.name} has no such length; `--help` lists every field")
        value = value if equals else next(left, "")
        console.print(f"lacuna: {flag} is called {', '.join(now)} now")
        result += [f"{name}={value}" for name in now]
    return result


def parse_experiment(command: str, arguments: list[str], extra: type | None = None) -> tuple[Experiment, Any]:
    """`FILE[:variant] [--field value …]` → the experiment with its fields changed, and `extra`'s own flags.

    `--objective NAME` puts another objective in the place of the experiment's, which further flags then are about.

    Args:
        extra: dataclass of flags that the command has beside the experiment's.
    """
    if not arguments or arguments[0].startswith("-"):
        print(
            f"usage: lacuna {command} FILE[:variant] [--field value …]\n\nexample: lacuna {command} experiments/bert/pretrain.py"
        )
        raise SystemExit(0 if arguments and arguments[0] in ("-h", "--help") else 2)
    reference, rest = arguments[0], arguments[1:]
    experiment = load(reference)
    objective, rest = option(rest, "--objective")
    if objective is not None:
        experiment = dataclasses.replace(experiment, objective=named(objective))
    program = f"lacuna {command} {reference}"
    options, helping = None, bool({"-h", "--help"} & set(rest))
    if helping:
        print(described(reference), end="\n\n")
    rest = renamed(rest, experiment)
    if extra is not None:
        options, rest = tyro.cli(extra, args=rest, prog=program, return_unknown_args=True, add_help=False)
        if helping:
            tyro.extras.get_parser(extra, prog=program, add_help=False).print_help()
    try:
        experiment = tyro.cli(
            Experiment,
            default=experiment,
            args=rest,
            prog=program,
            description=f"Every field of the experiment. `--objective NAME` (or NAME+NAME) takes another: {', '.join(KINDS)}.",
        )
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, ExperimentError) else ExperimentError(str(error)) from error
    flags = (argument.partition("=")[0] for argument in rest if argument.startswith("--model."))
    names = tuple(flag.removeprefix("--model.").replace("-", "_") for flag in flags)
    return dataclasses.replace(experiment, set_of_model=names), options


def experiment_flags(arguments: list[str], extra: type) -> list[str]:
    """Those behind FILE that are about the experiment, and mean the same to every command; the flags of `extra` left out."""
    return tyro.cli(extra, args=arguments[1:], return_unknown_args=True, add_help=False)[1]
