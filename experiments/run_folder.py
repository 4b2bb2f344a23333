"""The folder of a run: what is written there becomes visible whole, and what was trained there is taken up again."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.text import tokenizers
from experiments.experiment import Experiment, ExperimentError, describe
from training.checkpoints import is_step

RESULT, REPORT, MODEL, TOKENIZER, SETTINGS = "result.json", "report.html", "model", "tokenizer.json", "experiment.json"
UNFINISHED = re.compile(
    r"\.(result\.json|report\.html|metrics\.jsonl|experiment\.json|initial_model\.json|inputs)\.\d+"
    r"|\.(tokenizer_config|special_tokens_map|chat_template|generation_config)\.[0-9a-f]{32}\.\w+",
    re.ASCII,
)
"""What these are called until they are whole: the name, and the process that writes or what `data.files` puts there."""
ELSEWHERE = ("source", "tokenizer", "cache", "workers")
"""Fields of a data source that say where the data lie and who reads them, not what they are."""


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a run whose model, report and result are all there; `None` of any other."""
    try:
        result = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    return result if (folder / REPORT).exists() and any((folder / MODEL).rglob("config.json")) else None


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half-written; to be called by the folder's owner."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if UNFINISHED.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def rewritten(folder: Path) -> Iterator[Path]:
    """An empty folder; what is written to it takes its place in `folder` when the block ends well, each file at once."""
    temporary = folder / f".inputs.{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def begun(folder: Path) -> bool:
    """Whether there is a checkpoint, whole or not, to go on from."""
    return any(is_step(path.name) for path in (folder / "checkpoints").glob("*"))


def own_tokenizer(experiment: Experiment) -> Path | None:
    """The tokenizer that was trained for the run in the experiment's folder, if these are its settings.

    Its model knows no other ids: whatever becomes of the texts, no other is trained for it.
    """
    path, data = experiment.run_folder / TOKENIZER, describe(experiment.data)
    if data.get("tokenizer") != "" or not path.exists() or not begun(experiment.run_folder):
        return None
    try:
        before = json.loads((experiment.run_folder / SETTINGS).read_bytes())
        same = {name: value for name, value in before["data"].items() if name in data and name not in ELSEWHERE}
        room = before["model"]["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return path if room == experiment.vocabulary_size and same == {name: data[name] for name in same} else None


def check_tokenizer(folder: Path, prepared: Any) -> None:
    """Raise where the data are read with other ids than the model of the run in `folder` was trained on."""
    path, tokenizer = folder / TOKENIZER, prepared.tokenizer
    if tokenizer is None or not path.exists() or not begun(folder):
        return
    if tokenizers.load(path).get_vocab() != tokenizer.get_vocab():
        raise ExperimentError(
            f"the tokenizer of the data gives other ids than that of the run, {path}: a model cannot go on with another; set"
            f" --data.tokenizer {path}"
        )
