"""What campaigns have in common: texts to train on, pages, and runs of `lacuna train` in a process, with its output and its
CPU time beside the run's folder."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import IO, Any

from training.hardware import machine


def help_texts(folder: Path, most: int | None = None) -> Path:
    """Python's help topics as files of text in a folder: something to train on that is always there."""
    folder.mkdir(parents=True)
    for topic, text in sorted(topics.items())[:most]:
        (folder / f"{topic}.txt").write_text(text)
    return folder


def leave(text: str, path: Path | None) -> None:
    """Print a page, and write it where there is a path."""
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def how(doc: str | None) -> str:
    """The third paragraph of a campaign's docstring, which says how it measures, in one line."""
    return " ".join((doc or "").split("\n\n")[2].split())


def here() -> str:
    """The machine, in a line."""
    return "; ".join(f"{name} {value}" for name, value in machine().items())


def slug(name: str) -> str:
    """The name of a run's folder."""
    return name.lower().replace(", ", "-").replace(" ", "-")


def trained(reference: str, folder: Path, flags: Sequence[str], under: Sequence[str] = ()) -> dict[str, Any]:
    """The result of a run, which is done first where it is not.

    Args:
        under: a command that runs it, as `taskset`.

    Raises:
        subprocess.CalledProcessError: the run failed; `folder.log` says why.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [*under, sys.executable, "-m", "experiments.cli", "train", reference, "--folder", str(folder), *flags]
    result = folder / "result.json"
    done = result.exists()
    with open(folder.with_name(f"{folder.name}.log"), "a") as log:
        status, seconds = timed(command, log)
    if not done:
        with open(cpu_file(folder), "a") as file:
            file.write(f"{seconds}\n")
    if status:
        raise subprocess.CalledProcessError(status, command)
    return json.loads(result.read_text())


def timed(command: Sequence[str], log: IO[str]) -> tuple[int, float]:
    """The exit status of a command, and the CPU time, user and system, of it and of the processes that it waited for."""
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def cpu_file(folder: Path) -> Path:
    """Beside the folder of a run: the CPU time of each call that went on with it, in seconds."""
    return folder.with_name(f"{folder.name}.cpu")


def core_minutes(folder: Path) -> float:
    """The CPU time of a run, from reading its data to its report; other processes on the machine do not add to it."""
    return sum(map(float, cpu_file(folder).read_text().split())) / 60
