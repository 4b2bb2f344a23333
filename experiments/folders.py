"""Folders that a command writes for others to open: whole or not at all, and never over what is there unasked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from data.files import whole_file
from experiments.experiment import ExperimentError
from models.hub.beside import GENERATION
from models.hub.tokenizer_folder import SETTINGS, SPECIAL, TEMPLATE

CHECKPOINT = (
    *(
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model-*-of-*.safetensors",
        "model.safetensors.index.json",
    ),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    *(
        "source.spm",
        "target.spm",
        "source_tokenizer.json",
        "README.md",
        "preprocessor_config.json",
        "processor_config.json",
    ),
)
"""Files of a checkpoint folder: of an older one that is written over, none stays that would be read with the new."""


STAGED = ".writing"
"""Where a folder is made that is not yet whole."""


def refuse_what_is_there(target: Path, force: bool) -> None:
    """Raise where writing to `target` would mix with, or go over, what is there.

    Raises:
        ExperimentError: it is a file; or a folder that is not empty, without `force`.
    """
    if target.exists() and not target.is_dir():
        raise ExperimentError(f"{target} is a file: name a folder to write to")
    there = sorted(path.name for path in target.iterdir() if path.name != STAGED) if target.is_dir() else []
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ExperimentError(
            f"{target} is there already, with {there[0]}{more}: name another folder, or write over it with --force"
        )


@contextmanager
def replaced(target: Path, force: bool = False) -> Iterator[Path]:
    """A folder to write into; what it holds takes its place in `target` when all is written.

    Until then `target` stays as it was, and for good where the writing fails. With `force` files of the same names and
    older files of a checkpoint (`CHECKPOINT`) go; all others in `target` stay.

    Raises:
        ExperimentError: as `refuse_what_is_there`; a file would take the place of a folder, or the other way round.
    """
    target = Path(os.path.abspath(target.expanduser()))
    refuse_what_is_there(target, force)
    staged = target / STAGED if target.exists() else target.with_name(f".{target.name}{STAGED}")  # on the same disk
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
    try:
        staged.mkdir(parents=True)
    except OSError as error:
        raise ExperimentError(f"cannot write to {target}: {error.strerror or error}") from error
    try:
        yield staged
        put_in_place(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def put_in_place(staged: Path, target: Path) -> None:
    """Move what `staged` holds to `target`."""
    if not target.exists():
        staged.rename(target)
        return
    new = sorted(path.relative_to(staged) for path in staged.rglob("*") if not path.is_dir())
    for name in new:
        blocking = next(
            (target / part for part in name.parents if (target / part).exists() and not (target / part).is_dir()), None
        )
        blocking = target / name if (target / name).is_dir() else blocking
        if blocking is not None:
            raise ExperimentError(
                f"{blocking} stands where {name} is to be written: move it away, or name another folder"
            )
    folders = {target / name.parent for name in new}
    for name in new:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, target / name)
    for folder in folders:
        for path in folder.iterdir():
            if path.relative_to(target) not in new and any(fnmatch(path.name, pattern) for pattern in CHECKPOINT):
                path.unlink()


def keep_settings(folder: Path, tokenizer: Path | None, initial: Path | None) -> None:
    """Copy into a run's folder what its export will say of the tokenizer and of generation, where it comes from published
    folders, which may be gone by then: roles of special tokens, sides, chat template; `generation_config.json`.

    Args:
        tokenizer: the file or folder that the tokenizer was read from, where that is published.
        initial: the checkpoint that the run starts from.
    """
    sources = []
    if tokenizer is not None:
        beside = tokenizer if tokenizer.is_dir() else tokenizer.parent
        sources += [beside / name for name in (SETTINGS, SPECIAL, TEMPLATE)]
    if initial is not None:
        sources.append(initial / GENERATION)
    for source in sources:
        if source.is_file() and source.parent != folder:
            with whole_file(folder / source.name) as path:
                shutil.copyfile(source, path)
