"""Where the numbers of a run go: JSON lines and TensorBoard files, and how fast it is."""

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from training.parallel import TrainingError

TORCH = sys.modules.setdefault("torch", None)  # type: ignore[call-overload]
"""tensorboardX imports torch where it is installed, three seconds of every start, and numbers need none of it: it is hidden."""
from tensorboardX.proto.event_pb2 import Event, SessionLog  # noqa: E402
from tensorboardX.proto.summary_pb2 import Summary  # noqa: E402
from tensorboardX.record_writer import RecordWriter  # noqa: E402

if TORCH is None:
    del sys.modules["torch"]

log = logging.getLogger("lacuna")

T = TypeVar("T")


@runtime_checkable
class Writer(Protocol):
    """A place that numbers go to."""

    def write(
        self, step: int, split: str, values: Mapping[str, float | int], time: Mapping[str, float | int]
    ) -> None: ...

    def close(self) -> None: ...


class MetricsLog:
    """The numbers of a run, to `metrics.jsonl`, TensorBoard files and any `more` writers; those after `step` are cut off.

    Raises:
        TrainingError: they cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0, more: Sequence[Writer] = ()):
        self.folder = folder
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self.writers = (JsonLines(folder / "metrics.jsonl", step), TensorBoard(folder / "tensorboard", step), *more)

    def write(
        self, step: int, split: str, values: Mapping[str, float | int], time: Mapping[str, float | int] | None = None
    ) -> None:
        with self._told():
            for writer in self.writers:
                writer.write(step, split, values, time or {})

    def sync(self) -> None:
        """Have `metrics.jsonl` on the disk, as a checkpoint that is about to be written counts on."""
        with self._told():
            os.fsync(self.writers[0].file)

    def close(self) -> None:
        with self._told():
            for writer in self.writers:
                writer.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(f"cannot write the metrics in {self.folder}: {error.strerror or error}") from error


class JsonLines:
    """Lines `{"step", "split", name: value, …, "time": {…}}`. All but `time` is a function of the experiment alone."""

    def __init__(self, path: Path, step: int):
        lines = [line for line in read_metrics(path) if line["step"] <= step]
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.replace(temporary, path)
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for the life of the log

    def write(self, step, split, values, time):
        line = {"step": step, "split": split, **values} | ({"time": dict(time)} if time else {})
        text = json.dumps(line).encode() + b"\n"
        if self.file.write(text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        self.file.close()


class TensorBoard:
    """Event files, what comes after `step` purged. Written here and now: a full disk is an error where it is met."""

    def __init__(self, folder: Path, step: int):
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.{step}"
        self.file = RecordWriter(str(folder / name))
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))  # purges what came after `step`

    def write(self, step, split, values, time):
        values = [Summary.Value(tag=f"{split}/{name}", simple_value=x) for name, x in {**values, **time}.items()]
        self._add(step=step, summary=Summary(value=values))

    def _add(self, **fields: Any) -> None:
        self.file.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self.file.flush()

    def close(self):
        self.file.close()


def read_metrics(path: Path, report: Callable[..., None] = log.warning) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line that a crash cut off is left out.

    Args:
        report: called as a method of `logging` for a line that is damaged, which is left out too.
    """
    lines, damaged = [], []
    content = path.read_bytes() if path.exists() else b""
    for number, text in enumerate(content.split(b"\n"), 1):
        try:
            line = json.loads(text)
            if not {"step", "split"} <= line.keys() or not isinstance(line["step"], int):
                raise ValueError
            lines.append(line)
        except (ValueError, AttributeError, RecursionError):
            damaged.append(number)
    if damaged and damaged[-1] == content.count(b"\n") + 1:  # behind the last end of a line: nothing, or a part
        damaged.pop()
    if damaged:
        named = ", ".join(map(str, damaged[:5])) + (f" and {len(damaged) - 5} more" if len(damaged) > 5 else "")
        report("%s: line %s is damaged and left out; the lines behind are kept", path, named)
    return lines


class Speed:
    """Steps per second, from a moving mean of step times, the first steps (compilation) left out.

    Args:
        items: per step, of the global batch.
        flops: per step, of the global batch.
        peak: of all devices together, FLOP/s; 0 where unknown.
        unit: what the items are called.
    """

    def __init__(self, items: int, flops: float, peak: float, unit: str = "tokens"):
        self.items, self.flops, self.peak, self.unit = items, flops, peak, unit
        self.seconds: float | None = None
        self.steps, self.last, self.waited = 0, time.perf_counter(), 0.0

    def feed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, the time until each is there counted as waited for input."""
        while True:
            begin = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.perf_counter() - begin
            yield batch

    def tick(self) -> dict[str, float]:
        """Call once a step: seconds of the last step, the fraction of them waited for input, and mean rates."""
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        waited, self.waited = self.waited, 0.0
        self.steps += 1
        if self.steps > 2:
            self.seconds = elapsed if self.seconds is None else 0.95 * self.seconds + 0.05 * elapsed
        rates = {"step_seconds": elapsed, "input_wait": waited / elapsed}
        if self.seconds:
            rates[f"{self.unit}_per_second"] = self.items / self.seconds
            if self.peak:
                rates["mfu"] = self.flops / self.seconds / self.peak
        return rates

    def pause(self) -> None:
        """Call after something that is not a step, so that its time is not counted."""
        self.last, self.waited = time.perf_counter(), 0.0
