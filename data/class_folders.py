"""Folders that hold a folder for each class, or folders of splits with those inside; and which split is held out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data.errors import DataError
from data.files import files_below, hidden

TRAINING, HELD_OUT = ("train", "training"), ("validation", "val", "valid")
"""What the folders of a split are called, and the splits of a TFDS data set."""

SPLITS = (*TRAINING, *HELD_OUT, "test", "testing", "dev", "eval")
"""What a folder beside `train` may be called to be a split."""


class Labelled(NamedTuple):
    """Files of a folder, relative to it, and the class of each."""

    folder: Path
    names: list[str]
    labels: Int32[np.ndarray, " files"]


class Wanted(NamedTuple):
    """Files that are looked for: how their names end, and what each is called in a sentence."""

    endings: tuple[str, ...]
    item: str


def class_folders(folder: Path, wanted: Wanted) -> tuple[tuple[str, ...], dict[str, Labelled]]:
    """The classes of a folder, by label, and its labelled files by split.

    Raises:
        DataError: there are no two classes, one has no file, or a split has a class of its own.
    """
    subfolders = _subfolders(folder)
    training = next((name for name in TRAINING if name in subfolders), None)
    if training is None or not _is_split(folder, training, subfolders, wanted):
        classes = tuple(subfolders)
        return classes, {"train": _files(folder, classes, classes, wanted)}
    classes = tuple(_subfolders(folder / training))
    splits = {"train": _files(folder / training, classes, classes, wanted)}
    for name in sorted(set(subfolders) & set(SPLITS) - {training}):
        there = tuple(_subfolders(folder / name))
        strange = sorted(set(there) - set(classes))
        if name in HELD_OUT and strange:
            raise DataError(f"{folder / name} has a class {strange[0]!r}, which {folder / training} lacks")
        if name in HELD_OUT or (there and not strange):  # a test split often has no labels
            splits["validation" if name in HELD_OUT else name] = _files(folder / name, there, classes, wanted)
    return classes, splits


def sides(splits: Mapping[str, Any], held_out: str, source: str) -> tuple[Any, Any]:
    """The splits to train on and to hold out; `None` where there is none.

    Args:
        held_out: name of the split that is held out; where empty, `validation` if there is one.

    Raises:
        DataError: there is none of that name, or it is not to be seen which one is held out.
    """
    training = next((splits[name] for name in TRAINING if name in splits), None)
    if held_out:
        if held_out not in splits:
            raise DataError(f"{source} has no split {held_out!r}, but {', '.join(splits)}")
        return training, splits[held_out]
    name = next((name for name in HELD_OUT if name in splits), None)
    if name is None and training is None:
        name, *others = splits
        if others:
            raise DataError(
                f"{source} has neither a split to train on nor one called validation, but {', '.join(splits)}: set"
                " --data.held-out-split to one of them"
            )
    return training, None if name is None else splits[name]


def _is_split(folder: Path, training: str, subfolders: Sequence[str], wanted: Wanted) -> bool:
    """Whether the folder called so holds a split, and is not a class of that name (of vehicles, say).

    It is a split where it holds folders of files that are wanted and none beside them, and where each other folder is called
    as a split is, too, or holds none.
    """
    inside = os.scandir(folder / training)
    if any(entry.name.lower().endswith(wanted.endings) and not hidden(entry.name) for entry in inside):
        return False
    if not _subfolders(folder / training):
        return False
    others = [name for name in subfolders if name not in SPLITS]
    return not any(files_below(folder / name, wanted.endings) for name in others)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not hidden(entry.name))


def _files(folder: Path, there: tuple[str, ...], classes: tuple[str, ...], wanted: Wanted) -> Labelled:
    """The files of the class folders `there`."""
    if not there:
        raise DataError(f"{folder} holds no folder: give one that holds a folder of {wanted.item}s for each class")
    if len(classes) < 2:
        raise DataError(f"{folder} holds the one class {there[0]!r}, and to tell classes apart it takes two")
    names, labels = [], []
    for name in there:
        paths = files_below(folder / name, wanted.endings)
        if not paths:
            raise DataError(
                f"the class folder {folder / name} holds no {wanted.item} ({', '.join(wanted.endings)}): put some there, or"
                " remove it"
            )
        names += [f"{name}/{path}" for path in paths]
        labels += [classes.index(name)] * len(paths)
    return Labelled(folder, names, np.array(labels, np.int32))
