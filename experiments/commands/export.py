"""`lacuna export`: a run's checkpoint as a folder that `transformers` opens."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any, Literal

import jax

from evaluation.evaluation import HELD_OUT
from experiments.assembly.assemble import assemble
from experiments.commands import console, parse_experiment
from experiments.commands.evaluate import restored
from experiments.experiment import ExperimentError
from experiments.finish import export
from experiments.folders import refuse_what_is_there
from experiments.model_card import model_card
from training.metrics import read_metrics


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export.

    Attributes:
        checkpoint: `last`, `best` (lowest held-out loss), or a step.
        average: the average over the steps instead of the parameters of that step.
        force: write over what is in the folder.
        data_changed: what to do where the data are not those that the run was trained on.
    """

    checkpoint: str = "best"
    average: bool = False
    force: bool = False
    data_changed: Literal["refuse", "go-on"] = "refuse"


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[1].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            arguments = [*arguments[:1], "FOLDER", *arguments[1:]]
        else:
            raise ExperimentError("usage: lacuna export FILE[:variant] FOLDER [--checkpoint best|last|STEP] [--force]")
    folder = Path(arguments[1]).expanduser()
    experiment, options = parse_experiment("export", [arguments[0], *arguments[2:]], Options)
    refuse_what_is_there(folder, options.force)
    assembly = assemble(experiment, say=console.print)
    state, step = restored(assembly, options.checkpoint, options.data_changed)
    whole = assembly.spread.whole(state)
    if options.average and whole.average is None:
        raise ExperimentError(f"{experiment.name} keeps no average: it has no average_decay")
    variables = jax.device_get(whole.average if options.average else whole.variables)
    command = f"lacuna export {shlex.join(arguments)}"
    card = model_card(assembly, measured_at(experiment.run_folder, step), steps=step, command=command)
    export(assembly, variables, folder, card=card, force=options.force)
    for part, (model, _) in assembly.student.published(variables).items():
        path = folder / part
        print(f"step {step} of {experiment.name} is in {path}: {type(model).__name__}.from_pretrained({str(path)!r})")


def measured_at(folder: Path, step: int) -> dict[str, Any]:
    """What `metrics.jsonl` says was measured after a step, in the form of `experiments.finish.measured`; without intervals."""
    found: dict[str, Any] = {"held_out": {}}
    for line in read_metrics(folder / "metrics.jsonl"):
        if line["step"] == step and line["split"] != "train":
            figures = {name: x for name, x in line.items() if isinstance(x, float)}
            if line["split"] == HELD_OUT:
                found["held_out"] = figures
            else:
                found.setdefault("evaluations", {})[line["split"]] = {**figures, "intervals": {}}
    return found
