"""What a run leaves when its steps are done: what was measured, the model, the report, the result."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.text.pairs import SOURCE
from evaluation.baselines import constant
from evaluation.evaluation import HELD_OUT, Best
from experiments import run_folder
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluations import Evaluator
from experiments.assembly.written import beside_the_model
from experiments.commands import console
from experiments.folders import replaced
from experiments.model_card import NAME, model_card
from models import hub
from models.hub.beside import GENERATION
from objectives.losses import NATS
from training.checkpoints import write_json
from training.hardware import machine
from training.progress import working
from training.state import TrainState

EVALUATING = "evaluating on held-out examples"


def measured(asked: Sequence[Evaluator], state: TrainState, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """`held_out`, `intervals` of its metrics where it has some, and, where there are more, `evaluations`, {name: figures}."""
    with working(EVALUATING, say):
        held_out, *others = asked
        figures, intervals = held_out.with_intervals(state)
        found: dict[str, Any] = {"held_out": figures}
        if intervals:
            found["intervals"] = intervals
        if others:
            measures = {evaluator.name: evaluator.with_intervals(state) for evaluator in others}
            found["evaluations"] = {
                name: figures | {"intervals": intervals} for name, (figures, intervals) in measures.items()
            }
    return found


def finish(
    assembly: Assembly,
    state: TrainState,
    measures: dict[str, dict[str, Any]],
    *,
    model_step: int,
    command: str = "",
    **figures: Any,
) -> dict[str, Any]:
    """Write the model, the report and, last, the result of a run whose steps are done, which is returned; each appears whole.

    Every process is to call it: what is computed is computed as the steps are, where the parameters lie.

    Args:
        state: on the devices.
        measures: what `measured` says of it.
        model_step: the step that it is of.
        command: what the run was started with, for the model's card.
        figures: further ones of the result.
    """
    from experiments.show.report import guesses, write_report

    experiment, folder, first = assembly.experiment, assembly.experiment.run_folder, jax.process_index() == 0
    say = console.print if first else lambda _: None
    better = state.variables
    if average_is_better(experiment.best, measures):
        better = state.average
        say(f"model/ holds the average over the steps, whose {experiment.best.figure} is better")
    say(f"writing {folder / run_folder.MODEL}")
    variables = assembly.spread.gather(better)
    if first:
        card = model_card(assembly, measures, steps=model_step, command=command)
        export(assembly, variables, folder / run_folder.MODEL, card=card, force=True)
    del variables
    say(f"writing {folder / run_folder.REPORT}")
    result = {**described(assembly, better), "model_step": model_step, **measures, **figures}
    shown = guesses(assembly, better)
    if first:
        write_report(folder, assembly, result, shown)
        write_json(folder / run_folder.RESULT, result)
    return result


def described(assembly: Assembly, variables: Any) -> dict[str, Any]:
    """What a result says beside its measures: sizes, work, baselines, machine and corpus."""
    experiment, (items, flops) = assembly.experiment, assembly.work(-1)
    base = baselines(assembly, variables)
    return {
        "name": experiment.name,
        "architecture": experiment.architecture,
        "parameters": parameters_of(assembly),
        "steps": experiment.steps,
        "baselines": base,
        "training_baselines": baselines(assembly, variables, training=True),
        "units": units(assembly, base),
        "items": experiment.form(-1).items,
        "items_per_step": items,
        "flops_per_step": flops,
        "machine": machine(),
        "corpus": {
            "of": experiment.data.documents,
            **dict(zip(("training", "held_out"), assembly.data.counts, strict=True)),
        },
    }


def average_is_better(best: Best, measures: dict[str, dict[str, Any]]) -> bool:
    """Whether the average over the steps has the better figure, where there is one."""
    evaluation, figure = best.place
    values = measures["held_out"] if evaluation == HELD_OUT else measures["evaluations"][evaluation]
    return f"average_{figure}" in values and best.better(values[f"average_{figure}"], values[figure])


def export(assembly: Assembly, variables: Any, folder: Path, *, card: str = "", force: bool = False) -> None:
    """Write a folder that `transformers` opens: the model, what says how its inputs are made, and its card.

    Args:
        force: write over what is in the folder; without it that is an error.
    """
    experiment = assembly.experiment
    tokenizer = None if assembly.data.tokenizer is None else experiment.run_folder / "tokenizer.json"
    with replaced(folder, force) as place:
        hub.save(place, assembly.student, variables, tokenizer=tokenizer)
        if tokenizer is None:
            assembly.data.save(place, experiment.form(-1))
        else:
            assembly.data.save_processor(place, experiment.form(-1))
        generation, config = place / GENERATION, place / "config.json"
        if generation.exists():
            write_json(generation, {**json.loads(generation.read_text()), **beside_the_model(assembly)})
        if card:
            (place / NAME).write_text(card, encoding="utf-8")
        if (experiment.run_folder / SOURCE).exists():
            shutil.copyfile(experiment.run_folder / SOURCE, place / SOURCE)
        if assembly.data.prefix and config.exists():
            write_json(config, {**json.loads(config.read_text()), "prefix": assembly.data.prefix})


def baselines(assembly: Assembly, variables: Any, training: bool = False) -> dict[str, dict[str, Any]]:
    """For each loss that has one, what it is held against on the very same questions: the fields of a `Constant`.

    Args:
        variables: on the devices, as the steps want them.
        training: of the examples that were trained on last, about as many, rather than of those that are held out.
    """
    step, found = assembly.compile_targets_step(training), []
    for batch, copies in assembly.last_batches() if training else assembly.counted_batches():
        right = assembly.spread.host(step(variables, assembly.spread.put_batch(batch)))
        found.append(jax.tree.map(lambda counts: counts // copies, right))  # noqa: B023 - used at once
    if not found:
        return {}
    counts = jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.int64), *found)
    asked = jax.tree.map(lambda counts: np.repeat(np.arange(len(counts)), counts), counts)
    return {name: dataclasses.asdict(constant(right)) for name, right in asked.items()}


def units(assembly: Assembly, base: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The units of losses: as the objective says, and nats where there is a baseline; of their sum, where all have the same."""
    found = {**dict.fromkeys(base, NATS), **assembly.objective.units}
    every = {found.get(name, "") for name in assembly.losses}
    return {**found, "loss": every.pop()} if len(every) == 1 else found


def parameters_of(assembly: Assembly) -> int:
    return sum(x.size for x in jax.tree.leaves(assembly.state_shapes().params))
