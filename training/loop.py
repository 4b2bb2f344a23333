"""The loop: feeds batches to the step, reads numbers one step late, evaluates, saves, and leaves in good order."""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

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
from training.step import Step, shares


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


def fit(
    state: PyTree,
    *,
    phases: list[tuple[int, Step, Iterator[dict[str, Any]], Speed]],
    spread: Spread,
    first_step: int,
    steps: int,
    checkpoints: Checkpoints,
    log: MetricsLog | None,
    evaluate: Callable[[PyTree], Mapping[str, float]],
    learning_rates: Sequence[float] | np.ndarray,
    log_every: int = 1,
    evaluate_every: int = 1000,
    checkpoint_every: int = 1000,
    profile: Profile | None = None,
) -> PyTree:
    """Train from `first_step` to `steps`, the numbers of step n-1 being read after step n was dispatched.

    Args:
        state: as `spread` wants it; its memory is given away.
        phases: (last step, compiled step, batches, speed) one after another: a run may change its shapes.
        evaluate: held-out losses of a state; `loss` decides which checkpoint is the best.
        log: where the numbers go; `None` in all processes but the first.
        learning_rates: of each step, on the host: what is computed on the device waits behind the step under way.
        profile: which steps to trace.

    Raises:
        TrainingError: a loss or gradient is not finite, or a checkpoint cannot be written.
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
    """
    bar = ProgressBar(steps, first_step) if log is not None else None
    during = bar.during if bar is not None else lambda _: contextlib.nullcontext()
    speed = phases[0][3]

    def read(number: int, metrics: PyTree) -> None:
        values = shares(spread.host(metrics))
        check_finite(number, values, checkpoints)
        time = speed.tick()
        if log is None or bar is None:
            return
        if number % log_every == 0 or number == steps:
            values["learning_rate"] = float(learning_rates[number - 1])
            log.write(number, "train", values, time | peak_memory())
        shown = {name: value for name, value in values.items() if name.endswith(("loss", "accuracy"))}
        rates = {name: time[name] for name in time if name.endswith("_per_second") or name == "mfu"}
        bar.update(number, shown, rates, speed.seconds)

    try:
        with StopRequest() as stop:
            pending: tuple[int, PyTree] | None = None
            number = first_step
            for last, step, batches, speed in phases:
                speed.pause()
                for batch in speed.feed(batches):
                    number += 1
                    if profile is not None:
                        profile.before(number, state)
                    with jax.profiler.StepTraceAnnotation("train", step_num=number):
                        state, metrics = step(state, spread.put_batch(batch))
                    if profile is not None:
                        profile.after(number, metrics)
                    if pending is not None:
                        read(*pending)
                    pending = (number, metrics)
                    evaluating = number % evaluate_every == 0 or number == steps
                    stopping = stop.asked(number)
                    saving = number % checkpoint_every == 0 or number == steps or stopping is not None
                    if evaluating or saving:
                        read(*pending)
                        pending = None
                        loss = None
                        if evaluating:
                            with during("evaluating"):
                                values = dict(evaluate(state))
                            check_finite(number, values, checkpoints)
                            loss = values["loss"]
                            if log is not None and bar is not None:
                                log.write(number, "held_out", values)
                                bar.say(
                                    f"step {number} held out: "
                                    + " ".join(f"{name} {value:.4f}" for name, value in values.items())
                                )
                        if saving:
                            if log is not None:
                                log.sync()
                            with during("saving"):
                                checkpoints.save(spread.whole(state), loss)
                        speed.pause()
                    if stopping is not None:
                        checkpoints.wait()
                        raise Interrupted(number, stopping)
                if pending is not None:
                    read(*pending)
                    pending = None
                if number < last:
                    raise TrainingError(f"the input ended after step {number} of {last}")
            with during("saving"):
                checkpoints.wait()
            if stop.number is not None and jax.process_count() == 1:  # it came while the last step was being saved
                raise Interrupted(number, stop.number)
    finally:
        if profile is not None:
            profile.close()
        if bar is not None:
            bar.close()
    return state


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
