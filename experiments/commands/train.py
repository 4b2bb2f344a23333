"""`lacuna train`: pretrain, evaluate, report."""

import contextlib
import dataclasses
import json
import shlex
import time
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import tyro

from experiments import run_folder
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluations import check_evaluations, evaluators
from experiments.commands import console, experiment_flags, parse_experiment, supervised
from experiments.experiment import BOOKKEEPING, Experiment, at_default, describe
from experiments.finish import finish, measured, parameters_of
from experiments.folders import keep_settings
from experiments.initial import RECORD
from experiments.show.result import print_result
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
    judged = {"figure": experiment.best.figure} if experiment.best.named else {}
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
    if first_step >= experiment.steps and was_finished(experiment, reference):
        checkpoints.close()
        return
    if first:
        begin(assembly, first_step)
    asked = evaluators(assembly, say)
    with working("making the first parameters" if restored is None else "restoring the state", say):
        state = assembly.initial_state() if restored is None else assembly.spread.parts(restored)
    del restored
    with working("measuring what this processor can do", say):
        peak, how = peak_flops(experiment.model.dtype)
    log = open_log(assembly, first_step, options.wandb) if first else None
    rates = experiment.optimizer.rates(experiment.steps)
    watch = Watch(log=log, learning_rates=rates, every=experiment.log_every, profile=profile)
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
        with working("writing the last checkpoint", say):
            checkpoints.wait()
        chosen = chosen_step(experiment, checkpoints, say)
        if chosen != experiment.steps:
            del state  # before the other is read
            state = assembly.spread.parts(checkpoints.restore(assembly.state_shapes, chosen)[0])
        best = checkpoints.best()
        checkpoints.close()
        if watch.log is not None:
            watch.log.close()
            if profile is not None:
                console.print(profile.where())
        figures = dict(model_step=chosen, seconds=seconds, best_step=best, peak_flops=peak, peak_source=how)
        result = finish(assembly, state, measured(asked, state, say), command=f"lacuna train {reference}", **figures)
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


def was_finished(experiment: Experiment, reference: str) -> bool:
    """Whether the folder has all that a run leaves, which is then shown again. Every process is to call it."""
    folder, result = experiment.run_folder, None
    if jax.process_index() == 0:
        result = run_folder.finished(folder)
    if result is not None:
        console.print(f"{experiment.name} is done: all {experiment.steps:,} steps are in {folder}")
        print_result(result, folder, reference)
    return bool(at_first(result is not None))


def chosen_step(experiment: Experiment, checkpoints: Checkpoints, say: Callable[[str], None]) -> int:
    """The step whose state a run that is done leaves as its model: the best one where `best` names a figure, else the last.

    Every process is to call it. A best checkpoint that is damaged is left aside in favour of the last.
    """
    best = checkpoints.best() if experiment.best.named else None
    damage = None if best is None or jax.process_index() else checkpoints.damage(best)
    if damage is not None:
        say(f"the checkpoint of step {best:,}, the best by {experiment.best.figure}, is passed over: {damage}")
    step = at_first(experiment.steps if best is None or damage is not None else best)
    if step != experiment.steps:
        say(f"model/ and what is measured are of step {step:,}, whose {experiment.best.figure} is the best")
    return step


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
        f" {len(jax.devices())} {jax.devices()[0].device_kind} device(s), {experiment.parallel.kind},"
        f" attention by the {assembly.student.config.attention}"
        + (f", {jax.process_count()} processes" if jax.process_count() > 1 else "")
        + (f", going on after step {first_step:,}" if first_step else "")
    )


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
