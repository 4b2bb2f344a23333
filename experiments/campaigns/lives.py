"""A run that is started and killed again and again, each life the real `lacuna train` in a process of its own."""

import collections
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from experiments import cli
from training.checkpoints import Checkpoints
from training.metrics import read_metrics

PHASES = ("start-up", "training", "writing")
LAST = ("checkpoint", "model", "report", "result")
"""What is not there yet when a run dies after its last step."""
WEIGHTS = (0.15, 0.25, 0.6)
LAST_PARTS = {"model": (".model.writing", "model/.writing", "model"), "report": ("report.html",)}
"""What changes in the folder while a part of the end is written."""
LONGEST = 300.0
"""Seconds after which a life that has not got where it is to be ended, or does not end, is a failure."""


class CrashError(AssertionError):
    """A run that did not survive."""


@dataclasses.dataclass
class Campaign:
    """One run, its lives and deaths.

    Attributes:
        arguments: of `lacuna train`, without the folder.
        folder: of the run.
        processes: that train together.
    """

    arguments: Sequence[str]
    folder: Path
    processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.deaths: collections.Counter[tuple[str, str]] = collections.Counter()
        self.server = multiprocessing.get_context("forkserver")
        self.server.set_forkserver_preload(["experiments.commands.train", "experiments.show.report", "experiments.cli"])

    def start(self) -> list[multiprocessing.process.BaseProcess]:
        """Begin a life: all processes of the run."""
        arguments = ["train", *self.arguments, "--folder", str(self.folder)]
        port = _free_port()
        lives = []
        for number in range(self.processes):
            place = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(self.processes), "--process", str(number)]
            own = [*arguments, *place] if self.processes > 1 else arguments
            log = self.folder.with_name(f"{self.folder.name}.{number}.log")
            lives.append(self.server.Process(target=live, args=(own, str(log))))
            lives[-1].start()
        return lives

    def undisturbed(self) -> None:
        """Run to the end."""
        self._join(self.start(), [0], 10 * LONGEST)

    def kill(self) -> bool:
        """Start, and end at a moment drawn from the seed; `False` where the run was done before it came."""
        phase = self.rng.choices(PHASES, WEIGHTS)[0]
        number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        before, first = self._unfinished(), self._step()
        lives = self.start()
        if not self._await(phase, lives, before, first):
            self._join(lives, [0])
            return False
        victim = self.rng.choice(lives)
        pids = [victim.pid, *children(victim.pid)] if number == signal.SIGKILL else [victim.pid]
        writing = bool(self._unfinished() - before)
        if not self._ended(lives, self.rng.choice(pids), number):
            return False
        if number == signal.SIGKILL:  # what is there now was there when it died
            writing = bool(self._unfinished() - before)
        met = "writing" if writing else "start-up" if self._step() == first else "training"
        self._count(number, met)
        return True

    def kill_after_last_step(self, last: int, window: float) -> bool:
        """Start a run that is near its end, and end it between step `last`, its last, and the end; `False` where that came
        first.

        Args:
            window: seconds that a run takes from its last checkpoint to its end.
        """
        number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        moment, delay = self.rng.choice(("time", "checkpoint", "model", "report")), self.rng.random()
        parts = [self.folder / name for name in LAST_PARTS.get(moment, ())]
        ages, unfinished = [*map(_age, parts)], self._unfinished()
        whole = self.folder / "checkpoints.sums" / f"{last}.json"
        events = set(self.folder.glob("tensorboard/*"))
        lives = self.start()
        begin = time.monotonic()
        while lives[0].is_alive():
            saved = whole.exists() and bool(set(self.folder.glob("tensorboard/*")) - events)
            if moment == "checkpoint" and self._step() == last and (saved or self._unfinished() - unfinished):
                break
            if saved and moment == "time":
                time.sleep(delay * window)
                break
            if saved and [*map(_age, parts)] != ages:
                time.sleep(0.05 * delay)
                break
            if time.monotonic() - begin > LONGEST:
                raise CrashError(f"a life of {LONGEST:.0f} s has not come to its end")
            time.sleep(0.002)
        if not self._ended(lives, self.rng.choice(lives).pid, number):
            return False
        there = [whole.exists(), *((self.folder / name).exists() for name in ("model", "report.html"))]
        self._count(number, LAST[next((i for i, x in enumerate(there) if not x), 3)])
        return True

    def _ended(self, lives, pid: int, number: int) -> bool:
        """Send a signal to a process and wait for the end of all; `False` where the run was done before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self._join(lives, [0, -number, 128 + number] if self.processes == 1 else None)
        return any(life.exitcode for life in lives)

    def _count(self, number: int, met: str) -> None:
        """Count a death by a signal, by what it met; raise where it left a file that is broken."""
        name = signal.Signals(number).name
        self.deaths[name, met] += 1
        if broken := self.broken():
            raise CrashError(f"after {name} at {met}: {broken}")

    def _await(self, phase: str, lives, before: set, first: int) -> bool:
        """Wait for the moment; `False` where the run ends before."""
        begin, delay = time.monotonic(), self.rng.random()
        steps = self.rng.randrange(1, 8)
        while lives[0].is_alive():
            elapsed = time.monotonic() - begin
            if phase == "start-up" and elapsed > 3 * delay:
                return True
            if phase == "training" and self._step() >= first + steps:
                time.sleep(0.05 * delay)
                return True
            if phase == "writing" and self._step() >= first + steps and self._unfinished() - before:
                time.sleep(0.1 * delay)
                return True
            if elapsed > LONGEST:
                raise CrashError(f"a life of {LONGEST:.0f} s has not come to {phase}")
            time.sleep(0.005)
        return False

    def _join(self, lives, codes: list[int] | None, seconds: float = LONGEST) -> None:
        """Wait for the end of all; each exit code must be among `codes`, any where `None`."""
        deadline = time.monotonic() + seconds
        for life in lives:
            life.join(max(0.0, deadline - time.monotonic()))
        hanging = [life for life in lives if life.is_alive()]
        for life in hanging:
            life.kill()
        logs = [self.folder.with_name(f"{self.folder.name}.{number}.log") for number in range(self.processes)]
        output = "\n".join(log.read_text()[-2000:] for log in logs if log.exists())
        if hanging:
            raise CrashError(f"{len(hanging)} process(es) did not end within {seconds:.0f} s\n{output}")
        if codes is not None and any(life.exitcode not in codes for life in lives):
            raise CrashError(f"exit codes {[life.exitcode for life in lives]}, expected one of {codes}\n{output}")

    def _step(self) -> int:
        """The last step of `metrics.jsonl`, from its last lines."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return 0
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            steps = re.findall(rb'^{"step": (\d+),', file.read(), re.MULTILINE)
        return int(steps[-1]) if steps else 0

    def _unfinished(self) -> set[tuple[str, int]]:
        """Checkpoints that are being written or removed."""
        files = set()
        folder = self.folder / "checkpoints"
        for path in folder.iterdir() if folder.exists() else ():
            try:
                if not path.name.isdigit():
                    files.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        return files

    def broken(self) -> str:
        """What of the run's files is not whole; what a crash left half-written has a name that says so."""
        for path in [*self.folder.glob("*.json"), *self.folder.glob("checkpoints.sums/*.json")]:
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                return f"{path}: {error}"
        metrics = self.folder / "metrics.jsonl"
        written = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if written != len(read_metrics(metrics)):
            return f"{metrics} holds {written} lines, of which {len(read_metrics(metrics))} can be read"
        if (self.folder / "checkpoints").exists():
            checkpoints = Checkpoints(self.folder / "checkpoints")
            for step in checkpoints.steps():
                if checkpoints.damage(step):
                    return f"checkpoint of step {step}: {checkpoints.damage(step)}"
            checkpoints.close()
        report = self.folder / "report.html"
        if report.exists() and not report.read_text().endswith("</html>"):
            return f"{report} is cut off"
        try:
            for path in (self.folder / "model").glob("*.safetensors"):
                with safe_open(path, framework="numpy") as tensors:
                    [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 - it is no mapping
        except SafetensorError as error:
            return f"{path}: {error}"
        return ""


def live(arguments: list[str], log: str) -> None:
    """`lacuna ARGUMENTS`, in this process."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["lacuna", *arguments]
    cli.main(arguments)


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _free_port() -> int:
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def children(pid: int) -> list[int]:
    """Processes that any thread of a process has started (Linux)."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]
