"""What a run is doing, for who watches it: a bar on a terminal, a line now and then elsewhere, and no long silence."""

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

SILENCE_SECONDS = 2.0
"""What takes longer says what it is."""
NARROW, NARROW_BAR, WIDE_BAR = 100, 10, 20
"""Columns of a terminal below which the bar is short, and how long it is."""


def say(message: str) -> None:
    """A line to who watches, beside what a command gives."""
    Console(stderr=True).print(message, highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def working(what: str, say: Callable[[str], object] = say, after: float = SILENCE_SECONDS) -> Iterator[None]:
    """Say `what` is being done if it takes longer than `after` seconds."""
    timer = threading.Timer(after, say, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def counting(what: str, total: float, every: float = 20.0) -> Iterator[Callable[[float], None]]:
    """How much of a `total` is done, by a function that is called with each further part: a bar with the time left on a
    terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(what),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda part: bar.advance(task, part)
        return
    done, said = 0.0, time.perf_counter()

    def count(part: float) -> None:
        nonlocal done, said
        done += part
        if time.perf_counter() - said > every:
            said = time.perf_counter()
            say(f"{what}: {done:,.0f} of {total:,.0f}")

    yield count


class ProgressBar:
    """Step, of how many, a bar, the time left, and the last step's numbers as far as there is room.

    On a terminal it is one line that changes; elsewhere, without control codes, a line is printed now and then: after `every`
    seconds, and after each tenth of the run.

    The time left is that of the steps (`update`'s `seconds`), of which the first, which are compiled, do not count, and of what
    is done beside them (`during`), each as long as when it was fastest, the first time left out too.

    Args:
        steps: of the whole run.
        first: the step that it begins after.
        every: seconds between lines where there is no terminal.
    """

    def __init__(self, steps: int, first: int, every: float = 20.0, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.every, self.steps, self.first, self.step = every, steps, first, first
        self.printed, self.tenth = 0.0, 10 * first // steps
        self.seconds: float | None = None
        self.others: dict[str, tuple[int, float]] = {}
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if self.console.is_terminal:
            width = NARROW_BAR if self.console.width < NARROW else WIDE_BAR
            whole = dict(no_wrap=True)
            columns: list[ProgressColumn] = [
                TextColumn("{task.description}", table_column=Column(**whole)),
                BarColumn(bar_width=width, table_column=Column(min_width=width, **whole)),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=Column(**whole)),
                TextColumn("{task.fields[left]}", table_column=Column(**whole)),
                TextColumn("{task.fields[numbers]}", table_column=Column(overflow="ellipsis", ratio=1, **whole)),
            ]
            self.bar = Progress(*columns, console=self.console, expand=True)
            self.task = self.bar.add_task("compiling", total=steps, completed=first, numbers="", left=_left(None))
            self.bar.start()
        else:
            self.say(f"compiling step {first + 1} of {steps}")

    def update(
        self, step: int, values: Mapping[str, float | int], rates: Mapping[str, float], seconds: float | None = None
    ) -> None:
        """Show a step's numbers.

        Args:
            seconds: of a step, compilation left out; `None` where it is not known yet.
        """
        self.step = step
        self.seconds = seconds or self.seconds
        numbers, left = _numbers(values, rates), _left(self.left())
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description="training", completed=step, numbers=numbers, left=left)
        elif time.perf_counter() - self.printed > self.every or 10 * step // self.steps > self.tenth:
            self.printed, self.tenth = time.perf_counter(), 10 * step // self.steps
            done = WIDE_BAR * step // self.steps
            bar = f"[{'#' * done}{'.' * (WIDE_BAR - done)}]"
            self.say(f"step {step}/{self.steps} {bar} {left} {numbers}")

    def left(self) -> float | None:
        """Seconds to the end of the run; `None` where that is not known yet."""
        if self.seconds is None:
            return None
        done = max(1, self.step - self.first)
        beside = sum(count * fastest for count, fastest in self.others.values()) / done
        return (self.seconds + beside) * (self.steps - self.step)

    @contextlib.contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Show that this is being done beside the steps."""
        begin = time.perf_counter()
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description=what)
            yield
            self.bar.update(self.task, description="training")
        else:
            with working(what, self.say):
                yield
        seconds = time.perf_counter() - begin
        count, fastest = self.others.get(what, (0, 0.0))
        self.others[what] = count + 1, min(fastest, seconds) if count > 1 else seconds * count

    def say(self, message: str) -> None:
        """A line above the bar."""
        self.console.print(message, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:-- left"
    return f"{datetime.timedelta(seconds=round(seconds))} left"


def _numbers(values: Mapping[str, float | int], rates: Mapping[str, float]) -> str:
    """A loss and the speed first, for where there is little room, then the others."""
    losses = [f"{name} {_short(name, value)}" for name, value in values.items() if name.endswith("loss")]
    others = [f"{name} {_short(name, value)}" for name, value in values.items() if not name.endswith("loss")]
    speeds = [f"{value:,.0f} {name.removesuffix('_per_second')}/s" for name, value in rates.items() if name != "mfu"]
    mfu = [f"mfu {rates['mfu']:.1%}"] if "mfu" in rates else []
    return " ".join([*losses[:1], *speeds, *losses[1:], *others, *mfu])


def _short(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
