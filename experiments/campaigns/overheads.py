"""What a run pays for beside its steps: checkpoints, numbers and progress bar, waiting for input.

    python -m experiments.campaigns.overheads [--pairs 12] [--steps 10] [--write docs/overheads.md]

One process, the loop that every run uses, one model all along: BERT of 4 layers × 512 with 30,522 words (30 M parameters,
0.36 GB of state), 16 sequences of 128 tokens. Blocks of steps with and without what is measured take turns, so that a
change in the machine's speed meets both alike; a figure is the median over pairs of neighbouring blocks. Beside the time
on the clock stands that of the processor, which other work on the machine hardly touches.
"""

import argparse
import contextlib
import dataclasses
import os
import pty
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.forms import TextForm
from data.text.source import Text
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.bert.pretrain import base
from experiments.campaigns.runs import help_texts, here, how, leave
from experiments.cli import prepare_process
from experiments.experiment import Phase
from models.bert import BertConfig
from training.checkpoints import Checkpoints
from training.hardware import peak_memory
from training.loop import Schedule, Stage, Watch, fit
from training.metrics import MetricsLog
from training.progress import ProgressBar

EVERY = 50
"""Steps between checkpoints that the cost of one is held against."""
LIMITS = {"checkpoint": 0.03, "numbers": 0.01, "input": 0.02}


class NoCheckpoints:
    """Stands where a block of steps is to save nothing."""

    folder = Path()

    def steps(self) -> list[int]:
        return []

    def save(self, state: Any, loss: float | None = None) -> None:
        pass

    def wait(self) -> None:
        pass


class Run:
    """A run that is taken on by blocks of steps."""

    def __init__(self, assembly: Assembly, folder: Path):
        self.assembly, self.folder = assembly, folder
        self.state, self.step = assembly.initial_state(), assembly.compile_train_step()
        self.batches = assembly.batches(0, 0)
        self.done = 0
        self.asked: dict[int, np.ndarray] = {}
        self.rates = assembly.experiment.optimizer.rates(assembly.experiment.steps)

    def clocked(self, count: int) -> Iterator[Any]:
        """The next batches; the time at which each was asked for is kept, when the step before the last was done."""
        for number in range(self.done, self.done + count):
            self.asked[number] = np.array([time.perf_counter(), time.process_time()])
            yield next(self.batches)

    def fit(self, count: int, log: MetricsLog | None, checkpoints: Any, checkpoint_every: int = 10**9) -> None:
        first, last = self.done, self.done + count
        stage = Stage(last, self.step, self.clocked(count), self.assembly.speed(0, 0.0))
        self.state = fit(
            self.state,
            schedule=Schedule(stages=[stage], first=first, last=last, checkpoint_every=checkpoint_every),
            spread=self.assembly.spread,
            checkpoints=checkpoints,
            watch=Watch(log=log, learning_rates=self.rates),
        )
        self.done = last

    def seconds(self, begin: int, end: int) -> np.ndarray:
        """Of the steps `begin <= n < end`: on the clock, of the processor."""
        return self.asked[end] - self.asked[begin]


def checkpoint_cost(run: Run, pairs: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """`[pairs, 2]`: seconds that each checkpoint cost, and those of a step: a save, `steps` steps, as many without."""
    begin = run.done + -run.done % (2 * steps) + 2 * steps
    checkpoints = Checkpoints(run.folder / "checkpoints")
    run.fit(begin - run.done + 2 * steps * pairs + 3, None, checkpoints, 2 * steps)
    checkpoints.close()
    extra, plain = [], []
    for first in range(begin, begin + 2 * steps * pairs, 2 * steps):
        # The batch of step n + 1 has number n, so that the save after step `first` lies between first - 1 and first.
        with_, without = (run.seconds(n - 1, n - 1 + steps) for n in (first, first + steps))
        extra.append(with_ - without)
        plain.append(without / steps)
    return np.array(extra), np.array(plain)


def numbers_cost(run: Run, pairs: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """`[pairs, 2]`: extra seconds of a step for numbers, files and bar, and those of a step without."""
    extra, plain = [], []
    for pair in range(pairs):
        seconds = {}
        for shown in (True, False) if pair % 2 else (False, True):
            first = run.done + 1
            log = MetricsLog(run.folder / "log", first) if shown else None
            run.fit(steps + 2, log, NoCheckpoints())
            if log is not None:
                log.close()
            seconds[shown] = np.median([run.seconds(n, n + 1) for n in range(first, first + steps)], axis=0)
        extra.append(seconds[True] - seconds[False])
        plain.append(seconds[False])
    return np.array(extra), np.array(plain)


def numbers_alone(folder: Path, calls: int = 300) -> np.ndarray:
    """`[calls, 2]`: seconds of one step's numbers, files and bar, with no step beside them."""
    log, bar = MetricsLog(folder / "alone"), ProgressBar(calls, 0)
    values = dict.fromkeys(("masked_lm_loss", "masked_accuracy", "next_sentence_loss", "gradient_norm"), 1.0)
    times = dict.fromkeys(("step_seconds", "input_wait", "tokens_per_second", "mfu"), 1.0)
    clock = []
    for step in range(calls + 1):
        clock.append((time.perf_counter(), time.process_time()))
        log.write(step, "train", values, times | peak_memory())
        bar.update(step, values, times)
    bar.close()
    log.close()
    return np.diff(np.array(clock), axis=0)


def input_wait(run: Run, steps: int) -> list[float]:
    """The fraction of each step for which the host waited for its batch."""
    waits: list[float] = []

    class Waits:
        def write(self, step, split, values, time):
            if split == "train":
                waits.append(time["input_wait"])

        def close(self):
            pass

    log = MetricsLog(run.folder / "waits", 0, [Waits()])
    run.fit(steps + 3, log, NoCheckpoints())
    log.close()
    return waits[3:]


def steady(run: Run) -> None:
    """Steps until the last five are no faster than the five before, within 3 %."""
    run.fit(10, None, NoCheckpoints())
    for _ in range(10):
        run.fit(12, None, NoCheckpoints())
        before, after = (run.seconds(run.done - n, run.done - n + 5)[0] for n in (11, 6))
        if after > 0.97 * before:
            return


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Errors and the progress bar go to a terminal that nobody looks at."""
    master, slave = pty.openpty()
    kept = os.dup(2)
    os.dup2(slave, 2)

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(master, 65536):
                pass

    threading.Thread(target=drain, daemon=True).start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(slave)


def row(what: str, shares: np.ndarray, limit: float) -> str:
    """A line of the table; `shares` are `[count, 2]`, or `[count]` where the processor has no part in it."""
    cells = [
        f"{np.median(column):.2%} ({np.quantile(column, 0.25):.2%} to {np.quantile(column, 0.75):.2%})"
        for column in np.atleast_2d(shares.T)
    ]
    return f"| {what} | {' | '.join([*cells, ''][:2])} | {limit:.0%} | {len(shares)} |"


def page(summary: str, rows: list[str]) -> str:
    """Markdown: what was measured and how, a summary, the table."""
    lines = ["# What a run pays for beside its steps", ""]
    lines += [f"`make overheads` measures this and writes this page. {how(__doc__)}", "", summary, ""]
    lines += ["| | on the clock | of the processor | wanted, at most | counted |", "|---|--:|--:|--:|--:|"]
    return "\n".join([*lines, *rows, "", here(), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10, help="of a block")
    parser.add_argument("--write", type=Path, help="a Markdown file for the result")
    arguments = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        experiment = dataclasses.replace(
            base(),
            model=BertConfig(hidden_size=512, num_hidden_layers=4, num_attention_heads=8, intermediate_size=2048),
            data=Text(source=str(help_texts(folder / "texts")), held_out=0.1),
            batch_size=16,
            steps=100_000,
            phases=(Phase(1.0, TextForm(128)),),
            folder=str(folder / "run"),
        )
        run = Run(assemble(experiment), folder)
        parameters = sum(x.size for x in jax.tree.leaves(run.assembly.spread.whole(run.state).params))
        steady(run)
        extra, plain = checkpoint_cost(run, arguments.pairs, arguments.steps)
        with terminal():
            shown, silent = numbers_cost(run, arguments.pairs, arguments.steps)
            waits = input_wait(run, 2 * arguments.steps)
            alone = numbers_alone(folder)
    step, silent_step = np.median(plain, axis=0), np.median(silent, axis=0)
    rows = [
        row(f"an asynchronous checkpoint every {EVERY} steps", extra / (EVERY * step), LIMITS["checkpoint"]),
        row("metrics, files, progress bar", shown / silent_step, LIMITS["numbers"]),
        row("the same, timed alone", alone / silent_step, LIMITS["numbers"]),
        row("waiting for the next batch", np.array(waits), LIMITS["input"]),
    ]
    cost = np.median(extra, axis=0)
    summary = (
        f"{parameters:,} parameters; a step takes {step[0]:.2f} s on the clock and {step[1]:.2f} s of the processor's cores, a"
        f" checkpoint {cost[0]:.2f} s and {cost[1]:.2f} s. Shares of the step, of pairs of {arguments.steps} steps: median and"
        " quartiles. A negative one is noise around zero."
    )
    leave(page(summary, rows), arguments.write)


if __name__ == "__main__":
    main()
