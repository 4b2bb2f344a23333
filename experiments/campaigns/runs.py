"""Runs of a campaign: `lacuna train` in a process, with its output beside the run's folder."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
    with open(folder.with_name(f"{folder.name}.log"), "a") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    return json.loads((folder / "result.json").read_text())
