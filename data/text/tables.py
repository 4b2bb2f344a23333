"""Tables of texts: `.tsv`, whose first line names the columns; `.jsonl`, an object in each line; TFDS data sets."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.contents import Broken, Content, Contents
from data.errors import DataError
from data.files import files_below, on_disk, state_of
from data.text.documents import WIKIPEDIA_DUMP
from data.tfds import tfds_items

SUFFIXES = (".tsv", ".jsonl")
"""How the names of files of tables end, in any case."""


class Columns(NamedTuple):
    """The columns that a row must have.

    Attributes:
        names: columns of a `.tsv`, keys of a `.jsonl`, features of a TFDS data set.
        roles: what they are, as a flag names them.
        row: what a row is called in a sentence.
        numbers: columns that may hold whole numbers and truth values, too, which become strings.
        floats: columns of finite numbers, of which each becomes a float.
    """

    names: tuple[str, ...]
    roles: str = "SOURCE TARGET"
    row: str = "pair"
    numbers: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Column(Sequence):
    """A column of a table, as documents."""

    items: Sequence[Mapping[str, Any]]
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"text": self.items[index][self.name]}


def open_table(
    source: str,
    columns: Columns,
    *,
    split: str = "train",
    broken: Broken = "refuse",
    say: Callable[[str], None] = lambda message: None,
) -> tuple[Sequence[Mapping[str, Any]], str, list[str]]:
    """The rows of a file, of a folder of files or of a TFDS data set's split; a string that changes when they do; and
    what is wrong, in a sentence, with each row that is left out.

    Args:
        broken: whether rows that cannot be read are refused or left out.

    Raises:
        DataError: there is nothing to read there, or a row lacks a column or has nothing in it.
    """
    path = Path(source).expanduser()
    if split != "train" and (path.exists() or path.suffix.lower() in SUFFIXES):
        raise DataError(f"{path} has no split {split!r}, as a TFDS data set has: leave the split out")
    if path.exists():
        rows = list(_rows(path, columns))
        if not rows:
            raise DataError(f"{path} holds no {columns.row}")
        wrong = [row for row in rows if isinstance(row, str)]
        state = str([(str(file.resolve()), *state_of(file)) for file in _files(path)])
        Contents.of([Content(broken=row) if isinstance(row, str) else Content() for row in rows]).kept(
            broken, source, "line", say
        )
        return [row for row in rows if not isinstance(row, str)], state, wrong
    if path.suffix.lower() in SUFFIXES or path.is_absolute() or source.startswith((".", "~")):
        hint = on_disk(path, "; ")
        raise DataError(f"there is no {path}: {hint}give a .tsv or .jsonl file, a folder of them, or a TFDS name")
    return *tfds_items(source, columns.names, WIKIPEDIA_DUMP, split), []


def _files(path: Path) -> list[Path]:
    return [path / name for name in files_below(path, SUFFIXES)] if path.is_dir() else [path]


def _rows(path: Path, columns: Columns) -> Iterator[Mapping[str, str] | str]:
    """The rows of a file or a folder; in the place of one that cannot be read, a sentence that says why."""
    files = _files(path)
    if not files:
        raise DataError(f"{path} holds no .tsv and no .jsonl file, here or deeper")
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{file} is neither .tsv nor .jsonl: give one of those, or a folder of them")
        try:
            with open(file, "rb") as lines:
                for row in raw_rows(file, lines):
                    yield row if isinstance(row, str) else _row(row[1], columns, row[0])
        except OSError as error:
            yield f"{file} cannot be read: {error.strerror}"


def raw_rows(file: Path, lines: Iterable[bytes]) -> Iterator[tuple[str, Any] | str]:
    """Where each row of a `.tsv` or `.jsonl` stands, and what it holds; in the place of one that cannot be read, a sentence."""
    head: list[str] | None = None
    place = 0
    for number, content in enumerate(lines, 1):
        begin, place = place, place + len(content)
        try:
            line = content.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
            line = line.removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            yield (
                f"{file} is not UTF-8 (byte {begin + error.start}, line {number}): convert it, for instance with iconv"
            )
            continue
        if not line or (file.suffix.lower() == ".jsonl" and not line.strip()):
            continue
        if file.suffix.lower() == ".tsv":
            if head is None:
                head = line.split("\t")
                continue
            cells = line.split("\t")
            if len(cells) > len(head):
                yield f"{file}, line {number} has {len(cells)} columns, and the first line names {len(head)}: {', '.join(head)}"
                continue
            row: Any = dict(zip(head, cells, strict=False))
        else:
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield f"{file} is no JSON on every line: line {number}: {error}"
                continue
        yield f"{file}, line {number}", row


def _row(row: Any, columns: Columns, name: str) -> Mapping[str, str] | str:
    if not isinstance(row, dict):
        return f"{name}: expected an object with {' and '.join(columns.names)}"
    row = {key: str(x) if key in columns.numbers and isinstance(x, int) else x for key, x in row.items()}
    texts = [column for column in columns.names if column not in columns.floats]
    missing = [column for column in columns.names if column not in row]
    missing += [column for column in texts if not isinstance(row.get(column), str)]
    if missing:
        return f"{name} has no text {missing[0]!r}, but {', '.join(row)}: set --data.features {columns.roles}"
    empty = [column for column in texts if not row[column].strip()]
    if empty:
        return f"{name}: {empty[0]!r} is empty"
    for column in columns.floats:
        number = _number(row[column])
        if number is None:
            return f"{name}: {column!r} is {row[column]!r}, expected a number"
        row[column] = number
    return {column: row[column] for column in columns.names}


def _number(value: Any) -> float | None:
    """A finite number, which may stand in a string; `None` of anything else."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
