"""`lacuna explain`: what the objective feeds the model, token by token."""

import dataclasses

import numpy as np
from rich.console import Console

from experiments.assembly.assemble import assemble
from experiments.commands import console, parse_experiment
from experiments.experiment import ExperimentError
from experiments.show import module_for


@dataclasses.dataclass(frozen=True)
class Options:
    """What to show.

    Attributes:
        example: place in the run.
    """

    example: int = 0


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("explain", arguments, Options)
    if options.example < 0:
        raise ExperimentError(f"--example {options.example}: examples are counted from 0")
    assembly = assemble(experiment, say=console.print)
    before = assembly.data.training(assembly.form(0), experiment.seed)[options.example]
    seen = assembly.seen({name: np.asarray(value)[None] for name, value in before.items()})
    seen = {name: value[0] for name, value in seen.items()}
    out = Console(soft_wrap=True, highlight=False)
    out.print(
        f"example {options.example} of {experiment.name}, seed {experiment.seed}: {experiment.objective!r}",
        markup=False,
    )
    for line in module_for(seen).explained(assembly, before, seen, options.example):
        out.print(line, markup=False)
