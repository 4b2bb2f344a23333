"""`lacuna evaluate`: the held-out losses of a run's checkpoint, beside the baselines."""

import dataclasses
import json

from experiments.assemble import Assembly, assemble
from experiments.commands import parse_experiment
from experiments.commands.train import baselines, console
from experiments.experiment import ExperimentError
from training.checkpoints import Checkpoints, template_of


@dataclasses.dataclass(frozen=True)
class Options:
    """What to evaluate.

    Attributes:
        checkpoint: `last`, `best` (lowest held-out loss), or a step.
        on: this data source in the place of the experiment's: `imagenet_v2` or `imagenet2012_real` for a run on
            `imagenet2012`, or other text, which then goes through the run's own tokenizer. All of it, up to
            `evaluation_examples`; of pictures that have a split `validation`, that split.
        image_sizes: also at these resolutions, in pixels on a side.
    """

    checkpoint: str = "last"
    on: str = ""
    image_sizes: tuple[int, ...] = ()


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("evaluate", arguments, Options)
    if options.image_sizes and (experiment.data.items != "images" or min(options.image_sizes) < 1):
        raise ExperimentError(f"--image-sizes {options.image_sizes}: expected pixels on a side, of an image experiment")
    assembly = assemble(experiment, say=console.print)
    state, step = restored(assembly, options.checkpoint)
    if options.on:
        assembly = on_other_data(assembly, options.on)
    evaluation_step = assembly.compile_evaluation_step()
    values = assembly.evaluate(evaluation_step, state)
    base = baselines(assembly, assembly.spread.gather(state.variables))
    sizes = {size: assembly.evaluate(evaluation_step, state, size) for size in options.image_sizes}
    more = {"at_image_size": sizes} if sizes else {}
    print(json.dumps({"step": step, "held_out": values, "baselines": base, **more}, indent=2))


def on_other_data(assembly: Assembly, source: str) -> Assembly:
    """The parts of a run, to be asked about another source."""
    experiment, images = assembly.experiment, assembly.experiment.data.items == "images"
    own = {} if images else {"tokenizer": str(experiment.run_folder / "tokenizer.json")}
    data = dataclasses.replace(experiment.data, source=source, **own)
    needs = experiment.objective.needs
    prepared = data.prepare(experiment.vocabulary_size, experiment.run_folder, console.print, needs)
    if images and prepared.vocabulary.names != assembly.data.vocabulary.names:
        raise ExperimentError(
            f"--on {source}: its classes are not those of {experiment.data.source}, which the run knows"
        )
    return dataclasses.replace(assembly, data=prepared.all_held_out())


def open_checkpoints(assembly: Assembly) -> Checkpoints:
    experiment = assembly.experiment
    folder = experiment.run_folder / "checkpoints"
    if not folder.is_dir():
        raise ExperimentError(f"no run in {experiment.run_folder}: expected {folder}; `lacuna train` makes it")
    return Checkpoints(folder, keep=experiment.keep_checkpoints, description=assembly.description())


def restored(assembly, which: str = "last"):
    """The state of the run's checkpoint `last`, `best` or of a step, on the devices, and its step."""
    checkpoints = open_checkpoints(assembly)
    steps = checkpoints.steps()
    step = {"last": None, "best": checkpoints.best()}.get(which, which)
    if step is not None:
        if not str(step).isdigit() or int(step) not in steps:
            raise ExperimentError(f"--checkpoint {which}: expected last, best or one of {', '.join(map(str, steps))}")
        step = int(step)
    whole = assembly.spread.whole(assembly.initial_state())
    found = checkpoints.restore(template_of(whole), step)
    if found is None:
        raise ExperimentError(f"the run in {assembly.experiment.run_folder} has no checkpoint yet")
    return assembly.spread.parts(found[0]), int(found[0].step)
