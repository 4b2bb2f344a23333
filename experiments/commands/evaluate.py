"""`lacuna evaluate`: the evaluations of a run's checkpoint, beside the baselines."""

import dataclasses
import json
from typing import Literal

from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluations import evaluators, on_other_data
from experiments.commands import console, parse_experiment
from experiments.commands.train import open_checkpoints
from experiments.experiment import ExperimentError
from experiments.finish import EVALUATING, baselines, measured
from training.progress import working
from training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Options:
    """What to evaluate.

    Attributes:
        checkpoint: `last`, `best` (see the experiment's `best`), or a step.
        on: this data source in the place of the experiment's: `imagenet_v2` or `imagenet2012_real` for a run on
            `imagenet2012`, or other text, which then goes through the run's own tokenizer. All of it, up to
            `evaluation_examples`; of pictures that have a split `validation`, that split.
        image_sizes: also at these resolutions, in pixels on a side.
        data_changed: what to do where the data are not those that the run was trained on.
    """

    checkpoint: str = "last"
    on: str = ""
    image_sizes: tuple[int, ...] = ()
    data_changed: Literal["refuse", "go-on"] = "refuse"


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("evaluate", arguments, Options)
    forms = {size: experiment.form(-1).at_size(size) for size in options.image_sizes}
    assembly = assemble(experiment, say=console.print)
    state, step = restored(assembly, options.checkpoint, options.data_changed)
    if options.on:
        assembly = on_other_data(assembly, experiment.data.elsewhere(options.on), console.print)
        here = tuple(evaluation for evaluation in experiment.evaluations if evaluation.data is None)
        assembly = dataclasses.replace(assembly, experiment=dataclasses.replace(assembly.experiment, evaluations=here))
    held_out, *_ = asked = evaluators(assembly, console.print)
    figures = measured(asked, state, console.print)
    with working(EVALUATING, console.print):
        base = baselines(assembly, state.variables)
        sizes = {size: held_out(state, form) for size, form in forms.items()}
    more = {"at_image_size": sizes} if sizes else {}
    print(json.dumps({"step": step, **figures, "baselines": base, **more}, indent=2))


def restored(assembly: Assembly, which: str = "last", data_changed: str = "refuse") -> tuple[TrainState, int]:
    """The state of the run's checkpoint `last`, `best` or of a step, on the devices, and its step."""
    run = assembly.experiment.run_folder
    if not (run / "checkpoints").is_dir():
        above = f"; there is one in {run.parent}" if (run.parent / "checkpoints").is_dir() else ""
        raise ExperimentError(f"no run in {run}: expected {run / 'checkpoints'}, which `lacuna train` makes{above}")
    checkpoints = open_checkpoints(assembly, data_changed == "go-on")
    steps = checkpoints.steps()
    step = {"last": None, "best": checkpoints.best()}.get(which, which)
    if step is not None:
        if not str(step).isdigit() or int(step) not in steps:
            raise ExperimentError(f"--checkpoint {which}: expected last, best or one of {', '.join(map(str, steps))}")
        step = int(step)
    latest = checkpoints.restore(assembly.state_shapes, step)
    if latest is None:
        raise ExperimentError(f"the run in {run} has no checkpoint yet")
    step = int(latest[0].step)
    return assembly.spread.parts(latest[0]), step
