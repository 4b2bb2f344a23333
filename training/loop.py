"""The loop: feeds batches to the step, reads numbers one step late, evaluates, saves, and leaves in good order."""

import contextlib
import dataclasses
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from training.checkpoints import Checkpoints
from training.hardware import peak_memory
from training.interrupts import answer_with
from training.metrics import MetricsLog, Speed
from training.parallel import Spread, TrainingError
from training.profile import Profile
from training.progress import ProgressBar
from training.step import Step, host_values


class Interrupted(Exception):
    """The run was asked to stop and has saved; `signal` says by what."""

    def __init__(self, step: int, number: int):
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, which is saved; the same command goes on"
        )
        self.step, self.signal = step, number


class StopRequest:
    """Within it, SIGTERM and Ctrl-C ask for a stop after the step under way; a second Ctrl-C stops at once.

    So does the first one where no step has been done yet, while the first is being compiled: there is nothing to save.
    Of several processes all stop after the same step, whichever is asked: SIGTERM is JAX's notice of preemption there.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.started = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
            if jax.process_count() > 1:  # one that leaves while the others compile would have JAX abort them
                self._start()
        return self

    def _start(self) -> None:
        """From now on a Ctrl-C waits for the end of a step."""
        if not self.started:
            self.started = True
            answer_with("stopping after the step under way, which will be saved; Ctrl-C again stops at once")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and (self.number is not None or not self.started):
            raise KeyboardInterrupt
        self.number = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(self, step: int) -> int | None:
        """The signal by which a stop after `step` is asked for, if one is; to be called once a step."""
        self._start()
        if jax.process_count() == 1:
            return self.number
        reached = multihost_utils.reached_preemption_sync_point(step)
        return (self.number or signal.SIGTERM) if reached else None

    def __exit__(self, *_: object) -> None:
        answer_with(None)
        for number, handler in self._before.items():
            signal.signal(number, handler)


class StopAtOnce(StopRequest):
    """Within it, SIGTERM and Ctrl-C stop where they come, by `Interrupted`: all steps are done and saved, and what is left
    to do the same command does again."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def _ask(self, number: int, frame: FrameType | None) -> None:
        raise Interrupted(self.step, number)


@runtime_checkable
class Evaluator(Protocol):
    """Figures of a state, asked for every so many steps."""

    @property
    def name(self) -> str: ...

    @property
    def every(self) -> int: ...

    def __call__(self, state: PyTree) -> Mapping[str, float]: ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run whose batches have one shape.

    Attributes:
        last: step of the run.
        step: compiled.
        enter: makes the state what `step` wants, where the stage before left another.
    """

    last: int
    step: Step
    batches: Iterator[dict[str, Any]]
    speed: Speed
    enter: Callable[[PyTree], PyTree] = lambda state: state


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a run does until its last step.

    Attributes:
        stages: one after another.
        first: steps that are done already.
        last: step of the run.
        checkpoint_every: steps between checkpoints.
    """

    stages: Sequence[Stage]
    first: int
    last: int
    checkpoint_every: int = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watch:
    """What is written of a run.

    Attributes:
        log: where the numbers go; `None` in all processes but the first.
        learning_rates: of each step, on the host: what is computed on the device waits behind the step under way.
        every: steps between lines of the log.
        profile: which steps to trace.
    """

    log: MetricsLog | None
    learning_rates: Sequence[float] | np.ndarray
    every: int = 1
    profile: Profile | None = None


def fit(
    state: PyTree,
    *,
    schedule: Schedule,
    spread: Spread,
    checkpoints: Checkpoints,
    watch: Watch,
    evaluators: Sequence[Evaluator] = (),
    judge: Callable[[Mapping[str, Mapping[str, float]]], float | None] = lambda _: None,
) -> PyTree:
    """Train to the schedule's end, the numbers of step n-1 being read after step n was dispatched.

    Args:
        state: as `spread` wants it; its memory is given away.
        evaluators: asked at their intervals and after the last step.
        judge: {evaluator: figures} → the figure that decides which checkpoint is best, `None` where it was not measured.

    Raises:
        TrainingError: a loss, gradient or figure is not finite, or a checkpoint cannot be written.
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
    """
    loop = _Loop(schedule, spread, checkpoints, watch, evaluators, judge)
    try:
        with StopRequest() as stop:
            for stage in schedule.stages:
                state = loop.run(state, stage, stop)
            with loop.during("saving"):
                checkpoints.wait()
            if stop.number is not None and jax.process_count() == 1:  # it came while the last step was being saved
                raise Interrupted(loop.number, stop.number)
    finally:
        loop.close()
    return state


class _Loop:
    """The state of a loop beside that which it trains."""

    def __init__(self, schedule: Schedule, spread: Spread, checkpoints: Checkpoints, watch: Watch, evaluators, judge):
        self.schedule, self.spread, self.checkpoints, self.watch = schedule, spread, checkpoints, watch
        self.evaluators, self.judge = evaluators, judge
        self.number = schedule.first
        self.pending: tuple[int, PyTree] | None = None
        self.bar = ProgressBar(schedule.last, schedule.first) if watch.log is not None else None

    def during(self, what: str) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.bar is None else self.bar.during(what)

    def run(self, state: PyTree, stage: Stage, stop: StopRequest) -> PyTree:
        """Train to the end of a stage."""
        profile, speed = self.watch.profile, stage.speed
        state = stage.enter(state)
        speed.pause()
        for batch in speed.feed(stage.batches):
            self.number += 1
            if profile is not None:
                profile.before(self.number, state)
            with jax.profiler.StepTraceAnnotation("train", step_num=self.number):
                state, metrics = stage.step(state, self.spread.put_batch(batch))
            if profile is not None:
                profile.after(self.number, metrics)
            self.read(speed)
            self.pending = (self.number, metrics)
            stopping = stop.asked(self.number)
            saving = self.meets(self.schedule.checkpoint_every) or stopping is not None
            if saving or any(self.meets(evaluator.every) for evaluator in self.evaluators):
                self.read(speed)
                figure = self.evaluate(state)
                if saving:
                    self.save(state, figure)
                speed.pause()
            if stopping is not None:
                self.checkpoints.wait()
                raise Interrupted(self.number, stopping)
        self.read(speed)
        if self.number < stage.last:
            raise TrainingError(f"the input ended after step {self.number} of {stage.last}")
        return state

    def meets(self, every: int) -> bool:
        """Whether what is done every so many steps is done after this one."""
        return self.number % every == 0 or self.number == self.schedule.last

    def read(self, speed: Speed) -> None:
        """Read and write the numbers of the step that is pending, if one is."""
        if self.pending is None:
            return
        (number, metrics), self.pending = self.pending, None
        values = host_values(self.spread.host(metrics))
        check_finite(number, values, self.checkpoints)
        time = speed.tick()
        if self.watch.log is None or self.bar is None:
            return
        if number % self.watch.every == 0 or number == self.schedule.last:
            values["learning_rate"] = float(self.watch.learning_rates[number - 1])
            self.watch.log.write(number, "train", values, time | peak_memory())
        shown = {name: value for name, value in values.items() if name.endswith(("loss", "accuracy"))}
        rates = {name: time[name] for name in time if name.endswith("_per_second") or name == "mfu"}
        self.bar.update(number, shown, rates, speed.seconds)

    def evaluate(self, state: PyTree) -> float | None:
        """Ask the evaluators whose turn it is; the figure that decides which checkpoint is best, if it is among theirs."""
        figures = {}
        for evaluator in self.evaluators:
            if not self.meets(evaluator.every):
                continue
            with self.during("evaluating"):
                values = figures[evaluator.name] = dict(evaluator(state))
            check_finite(self.number, values, self.checkpoints)
            if self.watch.log is not None and self.bar is not None:
                self.watch.log.write(self.number, evaluator.name, values)
                shown = " ".join(f"{name} {value:.4f}" for name, value in values.items())
                self.bar.say(f"step {self.number} {evaluator.name.replace('_', ' ')}: {shown}")
        return self.judge(figures)

    def save(self, state: PyTree, figure: float | None) -> None:
        if self.watch.log is not None:
            self.watch.log.sync()
        with self.during("saving"):
            self.checkpoints.save(self.spread.whole(state), figure)

    def close(self) -> None:
        if self.watch.profile is not None:
            self.watch.profile.close()
        if self.bar is not None:
            self.bar.close()


def check_finite(step: int, values: Mapping[str, float | int], checkpoints: Checkpoints) -> None:
    """Stop where a number is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            good = checkpoints.steps()
            last = f"the last good checkpoint is that of step {good[-1]}" if good else "there is no checkpoint yet"
            raise TrainingError(
                f"{name} is {value} at step {step}; {last} in {checkpoints.folder}. The same command goes on from it and"
                " would meet the same: lower the learning rate, lengthen the warm-up, clip harder or compute in float32"
            )
