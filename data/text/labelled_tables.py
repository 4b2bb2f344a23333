"""What labelled texts are read from: folders of class folders, tables of text and label, TFDS data sets."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from data.class_folders import Wanted, class_folders
from data.contents import Broken
from data.errors import DataError
from data.files import state_of
from data.text.documents import WIKIPEDIA_DUMP
from data.text.files import read_text
from data.text.tables import SUFFIXES, Columns, open_table
from data.tfds import shard_states, tfds_builder, tfds_split

Labels = Int32[np.ndarray, " texts"] | Float32[np.ndarray, " texts"]


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The rows of a split and their labels, which are read where the split is of use."""

    rows: Sequence[Mapping[str, Any]]
    read_labels: Callable[[], Sequence[float] | np.ndarray]
    dtype: type = np.int32

    @functools.cached_property
    def labels(self) -> Labels:
        return np.array(self.read_labels(), self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """What a source holds; `state` changes when that does, `broken` says what is wrong with what is left out. Without
    `classes` the labels are numbers."""

    classes: tuple[str, ...]
    splits: Mapping[str, Part]
    state: str
    broken: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """Names of columns: of the text, or of both of a pair, and of the label; whether that is a number."""

    texts: tuple[str, ...]
    label: str
    numbers: bool

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.texts, self.label)

    @property
    def roles(self) -> str:
        return " ".join((*("TEXT", "SECOND")[: len(self.texts)], "LABEL"))


@dataclasses.dataclass(frozen=True, eq=False)
class TextFiles(Sequence):
    """Files, each a text."""

    folder: Path
    names: Sequence[str]
    column: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, str]:
        return {self.column: read_text(self.folder / self.names[index])}


def open_labelled(source: str, named: Named, broken: Broken, say: Callable[[str], None]) -> Opened:
    """What a folder, a table or a TFDS data set holds.

    Raises:
        DataError: there is nothing of use.
    """
    path = Path(source).expanduser()
    if path.is_dir() and any(entry.is_dir() for entry in path.iterdir()):
        return _folders(path, named)
    if path.exists() or path.suffix.lower() in SUFFIXES or source.startswith((".", "/", "~")):
        return _table(source, named, broken, say)
    return _tfds(source, named)


def _folders(folder: Path, named: Named) -> Opened:
    if named.numbers or len(named.texts) != 1:
        what = "numbers" if named.numbers else "pairs of texts"
        raise DataError(f"{folder} is a folder of class folders, which hold no {what}: give a .tsv or .jsonl file")
    classes, splits = class_folders(folder, Wanted((".txt",), "text"))
    states = [(split, name, *state_of(files.folder / name)) for split, files in splits.items() for name in files.names]
    parts = {
        split: Part(TextFiles(*files[:2], *named.texts), lambda files=files: files.labels)
        for split, files in splits.items()
    }
    return Opened(classes, parts, f"texts {folder.resolve()}{states}")


def _table(source: str, named: Named, broken: Broken, say: Callable[[str], None]) -> Opened:
    label = (named.label,)
    columns = Columns(named.all, named.roles, "text", *(((), label) if named.numbers else (label,)))
    rows, state, wrong = open_table(source, columns, broken=broken, say=say)
    if named.numbers:
        part = Part(rows, lambda: [row[named.label] for row in rows], np.float32)
        return Opened((), {"train": part}, state, wrong)
    names = {row[named.label] for row in rows}
    classes = tuple(sorted(names, key=int if all(name.isdecimal() for name in names) else None))
    check_labels(classes, source)
    return Opened(
        classes, {"train": Part(rows, lambda: [classes.index(row[named.label]) for row in rows])}, state, wrong
    )


def check_labels(names: Sequence[str], source: str) -> None:
    """Raise where there are no two labels, or two that differ in white space alone."""
    if len(names) < 2:
        raise DataError(f"{source} holds the one label {names[0]!r}, and to tell classes apart it takes two")
    stripped: dict[str, str] = {}
    for name in names:
        if (other := stripped.setdefault(name.strip(), name)) != name:
            raise DataError(f"{source} names one label in two ways, {other!r} and {name!r}: write it in one way")


def _tfds(name: str, named: Named) -> Opened:
    import tensorflow_datasets as tfds

    label = named.label
    builder = tfds_builder(
        name, named.all, "a folder, nor a .tsv or .jsonl file", WIKIPEDIA_DUMP, f"set --data.features {named.roles}"
    )
    feature = builder.info.features[label]
    classes = tuple(feature.names) if isinstance(feature, tfds.features.ClassLabel) else ()
    if named.numbers and classes:
        raise DataError(
            f"the feature `{label}` of the TFDS data set {name!r} is one of {len(classes)} classes, no number:"
            " leave out --data.numbers"
        )
    if not named.numbers and not classes:
        raise DataError(
            f"the feature `{label}` of the TFDS data set {name!r} is no label of a class; set --data.numbers where it is a"
            " number to be predicted"
        )
    splits = {split: tfds_split(builder, split) for split in builder.info.splits}
    dtype = np.float32 if named.numbers else np.int32
    return Opened(
        classes,
        {
            split: Part(items, lambda items=items: [items[n][label] for n in range(len(items))], dtype)
            for split, items in splits.items()
        },
        f"{builder.data_dir} {named.all} {[shard_states(builder, split) for split in splits]}",
    )
