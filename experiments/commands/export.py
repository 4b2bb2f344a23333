"""`lacuna export`: a run's checkpoint as a folder that `transformers` opens."""

import dataclasses
from pathlib import Path

import jax

from experiments.assemble import assemble
from experiments.commands import parse_experiment
from experiments.commands.evaluate import restored
from experiments.commands.train import console
from experiments.experiment import ExperimentError
from models import hub


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export.

    Attributes:
        checkpoint: `last`, `best` (lowest held-out loss), or a step.
    """

    checkpoint: str = "best"


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[1].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            arguments = [*arguments[:1], "FOLDER", *arguments[1:]]
        else:
            raise ExperimentError("usage: lacuna export FILE[:variant] FOLDER [--checkpoint best|last|STEP]")
    folder = Path(arguments[1])
    experiment, options = parse_experiment("export", [arguments[0], *arguments[2:]], Options)
    assembly = assemble(experiment, say=console.print)
    state, step = restored(assembly, options.checkpoint)
    params = jax.device_get(assembly.spread.whole(state).params)
    hub.save(folder, assembly.student, {"params": params}, tokenizer=experiment.run_folder / "tokenizer.json")
    for part, (model, _) in hub.parts(assembly.student, params).items():
        path = folder / part
        print(f"step {step} of {experiment.name} is in {path}: {type(model).__name__}.from_pretrained({str(path)!r})")
