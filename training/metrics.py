"""Where the numbers of a run go: JSON lines, TensorBoard files, and a progress bar."""

import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter


class MetricsLog:
    """`metrics.jsonl` and TensorBoard files of a run, cut back to `step` when a run goes on from there.

    A line is `{"step", "split", name: value, …, "time": {…}}`. All but `time` is a function of the experiment alone.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [line for line in read_metrics(self.path) if line["step"] <= step]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.replace(temporary, self.path)
        self.file = open(self.path, "a")  # noqa: SIM115 - open for the life of the log
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(
        self, step: int, split: str, values: dict[str, float | int], time: dict[str, float] | None = None
    ) -> None:
        line: dict[str, Any] = {"step": step, "split": split, **values}
        if time is not None:
            line["time"] = time
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in {**values, **(time or {})}.items():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line that a crash cut off is left out."""
    lines = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
    return lines


class Speed:
    """Steps per second, from a moving mean of step times, the first steps (compilation) left out.

    Args:
        tokens: per step, of the global batch.
        flops: per step, of the global batch.
        peak: of all devices together, FLOP/s; 0 where unknown.
    """

    def __init__(self, tokens: int, flops: float, peak: float):
        self.tokens, self.flops, self.peak = tokens, flops, peak
        self.seconds: float | None = None
        self.steps, self.last = 0, time.perf_counter()

    def tick(self) -> dict[str, float]:
        """Call once a step."""
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        self.steps += 1
        if self.steps > 2:
            self.seconds = elapsed if self.seconds is None else 0.95 * self.seconds + 0.05 * elapsed
        if not self.seconds:
            return {"step_seconds": elapsed}
        rates = {"step_seconds": elapsed, "tokens_per_second": self.tokens / self.seconds}
        return rates | ({"mfu": self.flops / self.seconds / self.peak} if self.peak else {})

    def pause(self) -> None:
        """Call after something that is not a step, so that its time is not counted."""
        self.last = time.perf_counter()


class ProgressBar:
    """A bar with the last step's numbers on a terminal; elsewhere a line now and then."""

    def __init__(self, steps: int, first: int, every: float = 20.0):
        self.console = Console(stderr=True)
        self.every, self.said, self.steps = every, 0.0, steps
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.started, self.first = time.perf_counter(), first
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("training", total=steps, completed=first, numbers="compiling")
            self.bar.start()

    def update(self, step: int, values: dict[str, float | int], time_values: dict[str, float]) -> None:
        numbers = " ".join(f"{name} {_short(name, value)}" for name, value in {**values, **time_values}.items())
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, numbers=numbers)
        elif time.perf_counter() - self.said > self.every or step == self.steps:
            self.said = time.perf_counter()
            done = max(1, step - self.first)
            left = (self.said - self.started) / done * (self.steps - step)
            self.console.print(f"step {step}/{self.steps} {numbers} ETA {left:.0f} s", highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """A line above the bar."""
        self.console.print(message, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _short(name: str, value: float) -> str:
    if name == "mfu" or name.endswith("accuracy"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
