"""`lacuna train`: pretrain, evaluate, report."""

import contextlib
import dataclasses
import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from evaluation.baselines import comparison, constant
from evaluation.evaluation import HELD_OUT, Best
from experiments import run_folder
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluations import Evaluator, check_evaluations, evaluators
from experiments.commands import experiment_flags, parse_experiment, supervised
from experiments.experiment import BOOKKEEPING, Experiment, at_default, describe
from experiments.folders import keep_settings, replaced
from experiments.initial import RECORD
from inference import tasks
from models import hub
from models.hub.beside import GENERATION
from objectives.losses import NATS
from training.checkpoints import Checkpoints, write_json
from training.hardware import peak_flops
from training.identity import Identity
from training.loop import Schedule, Stage, StopAtOnce, Watch, fit
from training.metrics import MetricsLog
from training.owner import Owner
from training.processes import Processes, agree, at_first
from training.profile import Profile
from training.progress import working
from training.state import TrainState
from training.weights_and_biases import WeightsAndBiases

EVALUATING = "evaluating on held-out examples"

console = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclasses.dataclass(frozen=True)
class Options(Processes):
    """Where the processes of a run meet, and what to watch of it; it changes no number.

    Attributes:
        profile: steps=10:13 writes a trace of the steps 10, 11 and 12, for TensorBoard (XProf) and Perfetto.
        wandb: project of Weights & Biases to send the numbers to, too.
        data_changed: what to do where the data are not those that the run was trained on so far.
    """

    profile: Annotated[str | None, tyro.conf.arg(metavar="steps=FIRST:END")] = None
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    data_changed: Literal["refuse", "go-on"] = "refuse"


def main(arguments: list[str]) -> None:
    experiment, options = parse_experiment("train", arguments, Options)
    supervised(options, arguments[0])
    train(experiment, shlex.join([arguments[0], *experiment_flags(arguments, Options)]), options)


def open_checkpoints(assembly: Assembly, data_may_differ: bool = False) -> Checkpoints:
    """Those of the assembled run.

    Args:
        data_may_differ: go on over other data than those it was trained on so far, with its own tokenizer.
    """
    experiment = assembly.experiment
    if data_may_differ:
        run_folder.check_tokenizer(experiment.run_folder, assembly.data)
    judged = {} if experiment.best.figure == "loss" else {"figure": experiment.best.figure}
    return Checkpoints(
        experiment.run_folder / "checkpoints",
        identity=Identity(
            description=assembly.description(),
            ignored=BOOKKEEPING,
            at_default={*at_default(experiment)},
            current=experiment.today,
            data=assembly.data.fingerprint,
            data_may_differ=data_may_differ,
        ),
        keep=experiment.keep_checkpoints,
        measured_on={"examples": experiment.evaluation_examples, "data": assembly.data.fingerprint} | judged,
        more_is_better=experiment.best.more_is_better,
    )


def train(experiment: Experiment, reference: str, options: Options = Options()) -> None:
    """Run an experiment to its end, from its newest checkpoint where there is one, and write its model, report and result.

    It is done when these three lie in its folder, in that order; stopped anywhere before, the same call goes on.

    Args:
        reference: how the user named it, flags and all, for the commands to try next.

    Raises:
        TrainingError: another process is training in the folder; see `fit` for what else.
    """
    with Owner(experiment.run_folder) if jax.process_index() == 0 else contextlib.nullcontext():
        train_alone(experiment, reference, options)


def train_alone(experiment: Experiment, reference: str, options: Options) -> None:
    """`train`, where the folder of the run is this process' own."""
    folder, first, profile = experiment.run_folder, jax.process_index() == 0, None
    say = console.print if first else lambda _: None
    if options.profile is not None and first:
        profile = Profile.parse(options.profile, folder / "profile", experiment.steps)
    assembly = assemble(experiment, say=say)
    check_evaluations(assembly)
    about = json.dumps([assembly.description(), experiment.bookkeeping()])
    agree({"experiment": about, "data": assembly.data.fingerprint})
    checkpoints = open_checkpoints(assembly, options.data_changed == "go-on")
    restored, first_step = newest(checkpoints, assembly, say)
    result = run_folder.finished(folder) if first and first_step >= experiment.steps else None
    if at_first(result is not None):
        checkpoints.close()
        if first:
            console.print(f"{experiment.name} is done: all {experiment.steps:,} steps are in {folder}")
            print_result(result, folder, reference)
        return
    if first:
        begin(assembly, first_step)
    asked = evaluators(assembly, say)
    with working("making the first parameters" if restored is None else "restoring the state", say):
        state = assembly.initial_state() if restored is None else assembly.spread.parts(restored)
    del restored
    with working("measuring what this processor can do", say):
        peak, how = peak_flops(experiment.model.dtype)
    watch = Watch(
        log=open_log(assembly, first_step, options.wandb) if first else None,
        learning_rates=experiment.optimizer.rates(experiment.steps),
        every=experiment.log_every,
        profile=profile,
    )
    start = time.perf_counter()
    schedule = scheduled(assembly, first_step, peak)
    if schedule.stages:
        state = fit(
            state,
            schedule=schedule,
            spread=assembly.spread,
            checkpoints=checkpoints,
            watch=watch,
            evaluators=asked,
            judge=experiment.best.of,
        )
    seconds = time.perf_counter() - start
    with StopAtOnce(experiment.steps):
        best = checkpoints.best()
        with working("writing the last checkpoint", say):
            checkpoints.close()
        if watch.log is not None:
            watch.log.close()
            if profile is not None:
                console.print(profile.where())
        figures = dict(seconds=seconds, best_step=best, peak_flops=peak, peak_source=how)
        result = finish(assembly, state, measured(asked, state, say), **figures)
        if first:
            print_result(result, folder, reference)


def newest(checkpoints: Checkpoints, assembly: Assembly, say: Callable[[str], None]) -> tuple[TrainState | None, int]:
    """The state to go on from and its step, `None` and 0 where there is none; damaged checkpoints behind it are removed."""
    with working("reading the newest checkpoint", say):
        restored = checkpoints.restore(assembly.state_shapes)
    if restored is None:
        return None, 0
    step = int(restored[0].step)
    checkpoints.discard_after(step)
    return restored[0], step


def begin(assembly: Assembly, first_step: int) -> None:
    """Write what the folder of a run holds beside checkpoints and numbers, and say what begins."""
    experiment, folder = assembly.experiment, assembly.experiment.run_folder
    run_folder.sweep(folder)
    write_json(folder / run_folder.SETTINGS, describe(experiment))
    if assembly.initial is not None:
        write_json(folder / RECORD, assembly.initial.record)
    with run_folder.rewritten(folder) as inputs:
        assembly.data.save(inputs, experiment.form(-1))
    keep_settings(folder, assembly.published_tokenizer, None if assembly.initial is None else assembly.initial.folder)
    console.print(
        f"{experiment.name}: {experiment.architecture} with {parameters_of(assembly):,} parameters on"
        f" {len(jax.devices())} {jax.devices()[0].device_kind} device(s), {experiment.parallel.kind}"
        + (f", {jax.process_count()} processes" if jax.process_count() > 1 else "")
        + (f", going on after step {first_step:,}" if first_step else "")
    )


def parameters_of(assembly: Assembly) -> int:
    return sum(x.size for x in jax.tree.leaves(assembly.state_shapes().params))


def open_log(assembly: Assembly, first_step: int, wandb: str | None) -> MetricsLog:
    folder, writers = assembly.experiment.run_folder, []
    if wandb is not None:
        writers.append(WeightsAndBiases(wandb, folder, assembly.experiment.name, assembly.description(), first_step))
    return MetricsLog(folder, first_step, writers)


def scheduled(assembly: Assembly, first_step: int, peak: float) -> Schedule:
    """The phases that are left, as the loop runs them.

    Args:
        peak: FLOP/s of one device.
    """
    experiment, steps = assembly.experiment, {}
    stages, begin = [], 0
    for number, end in enumerate(experiment.phase_ends):
        if end > max(first_step, begin):
            parts, before = assembly.at(number), assembly.at(experiment.phase_of(begin))
            trainable = parts.update.trainable
            if trainable not in steps:
                steps[trainable] = assembly.compile_train_step(number)
            speed = assembly.speed(number, peak * assembly.spread.mesh.devices.size)
            stage = Stage(end, steps[trainable], assembly.batches(number, max(first_step, begin)), speed)
            enters = first_step <= begin and before.update.trainable != trainable
            stages.append(dataclasses.replace(stage, enter=parts.entered) if enters else stage)
        begin = end
    return Schedule(
        stages=stages, first=first_step, last=experiment.steps, checkpoint_every=experiment.checkpoint_every
    )


def measured(asked: Sequence[Evaluator], state: TrainState, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """`held_out`, `intervals` of its metrics where it has some, and, where there are more, `evaluations`, {name: figures}."""
    with working(EVALUATING, say):
        held_out, *others = asked
        found = {"held_out": held_out(state)}
        intervals = held_out.intervals(state.variables)
        if intervals:
            found["intervals"] = intervals
        if others:
            found["evaluations"] = {
                evaluator.name: evaluator(state) | {"intervals": evaluator.intervals(state.variables)}
                for evaluator in others
            }
    return found


def finish(
    assembly: Assembly, state: TrainState, measures: dict[str, dict[str, Any]], **figures: Any
) -> dict[str, Any]:
    """Write the model, the report and, last, the result of a run whose steps are done, which is returned; each appears whole.

    Every process is to call it: what is computed is computed as the steps are, where the parameters lie.

    Args:
        state: on the devices.
        measures: what `measured` says of it.
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
        export(assembly, variables, folder / run_folder.MODEL, force=True)
    del variables
    say(f"writing {folder / run_folder.REPORT}")
    items, flops = assembly.work(-1)
    base = baselines(assembly, better)
    result = {
        "name": experiment.name,
        "architecture": experiment.architecture,
        "parameters": parameters_of(assembly),
        "steps": experiment.steps,
        **measures,
        "baselines": base,
        "training_baselines": baselines(assembly, better, training=True),
        "units": units(assembly, base),
        "items": experiment.form(-1).items,
        "items_per_step": items,
        "flops_per_step": flops,
        "machine": machine(),
        "corpus": {
            "of": experiment.data.documents,
            **dict(zip(("training", "held_out"), assembly.data.counts, strict=True)),
        },
        **figures,
    }
    shown = guesses(assembly, better)
    if first:
        write_report(folder, assembly, result, shown)
        write_json(folder / run_folder.RESULT, result)
    return result


def average_is_better(best: Best, measures: dict[str, dict[str, Any]]) -> bool:
    """Whether the average over the steps has the better figure, where there is one."""
    evaluation, figure = best.place
    values = measures["held_out"] if evaluation == HELD_OUT else measures["evaluations"][evaluation]
    return f"average_{figure}" in values and best.better(values[f"average_{figure}"], values[figure])


def export(assembly: Assembly, variables: Any, folder: Path, force: bool = False) -> None:
    """Write a folder that `transformers` opens: the model, and what says how its inputs are made.

    Args:
        force: write over what is in the folder; without it that is an error.
    """
    experiment = assembly.experiment
    tokenizer = None if assembly.data.tokenizer is None else experiment.run_folder / "tokenizer.json"
    with replaced(folder, force) as place:
        hub.save(place, assembly.student, variables, tokenizer=tokenizer)
        if tokenizer is None:
            assembly.data.save(place, experiment.form(-1))
        generation, published = place / GENERATION, experiment.run_folder / GENERATION
        if generation.exists() and published.exists():  # of the model that the run began with
            write_json(generation, {**json.loads(generation.read_text()), **json.loads(published.read_text())})


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


def machine() -> dict[str, str | int]:
    """What the figures of this run were measured on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        facts = dict(
            tuple(part.strip() for part in line.split(":", 1))
            for line in cpuinfo.read_text().splitlines()
            if ":" in line
        )
        cpu = facts.get("model name", cpu)
        features = set(facts.get("flags", "").split())
        best = next((name for name in ("amx_tile", "avx512f", "avx2") if name in features), "")
        cpu = f"{cpu} family {facts.get('cpu family')} model {facts.get('model')} {best}"
    return {
        "devices": f"{len(jax.devices())} × {jax.devices()[0].device_kind}",
        "processor": cpu,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")},
    }


def print_result(result: dict[str, Any], folder: Path, reference: str) -> None:
    """What was measured, where everything lies, and some commands to try next."""
    table = Table(title=f"{result['name']}: held-out {result['corpus']['of']} after {result['steps']:,} steps")
    for column in ("", "model", "baseline", "what the baseline is"):
        table.add_column(column, justify="left" if column in ("", "what the baseline is") else "right")
    for row in comparison(
        result["held_out"], result["baselines"], result.get("units", {}), result.get("intervals", {})
    ):
        table.add_row(*row)
    out = Console(soft_wrap=True, highlight=False)
    out.print(table)
    out.print(f"{result['seconds']:.0f} s of training on {result['machine']['processor']}")
    config = json.loads((folder / "model" / "config.json").read_text())
    exported, opens = config["architectures"][0], "transformers: {}.from_pretrained"
    if config["model_type"] == "transformer":  # which they have no class for
        opens = "models.hub.load"
    for name, what in (
        ("report.html", "curves, baselines, guesses"),
        ("model/", f"opens with {opens.format(exported)}"),
        ("checkpoints/", f"newest and best (step {result['best_step']})"),
        ("metrics.jsonl", "every step"),
        ("tensorboard/", "the same for TensorBoard"),
    ):
        out.print(f"  {folder / name}  {what}")
    out.print("try next:")
    settings = folder / "model" / "tokenizer_config.json"
    mask = json.loads(settings.read_text()).get("mask_token") if settings.exists() else None
    for task in tasks.that_fit(hub.outline(folder / "model")):
        if "[MASK]" not in task.example or mask is not None:
            asked = task.example.format(model=shlex.quote(str(folder / "model"))).replace("[MASK]", mask or "")
            out.print(f"  {asked}", markup=False)
    for verb in ("evaluate", "explain", "bench"):
        out.print(f"  lacuna {verb} {reference}", markup=False)
