"""What `lacuna predict` is asked: words of the command line, lines of files, and standard input, each with where it stands."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from data.errors import DataError
from experiments.experiment import ExperimentError
from inference.fields import Field
from models.config import ModelError, nearest

Form = Literal["txt", "jsonl", "tsv"]
Line = tuple[str, Any]
"""Where an input stands (empty on the command line), and the input."""

FIRST_BLOCK, BLOCK = 32, 1024
"""Inputs that are answered together: few at first, so that something is seen soon."""


def of_file(path: Path, form: Form | None, fields: Sequence[Field]) -> Iterator[Line]:
    """The inputs in the lines of a file, whose name says of what form it is."""
    ending = path.suffix.lower().removeprefix(".")
    if form is None and ending not in ("txt", "jsonl", "tsv"):
        raise ExperimentError(f"{path} is neither .txt nor .jsonl nor .tsv: say which with --format")
    try:
        with path.open("rb") as lines:
            yield from of_lines(lines, str(path), form or ending, fields)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror}") from None


def of_standard_input(form: Form | None, fields: Sequence[Field]) -> Iterator[Line]:
    """The inputs in the lines of standard input: texts, or JSON where an input is several texts."""
    several = sum(not field.optional for field in fields) > 1
    return of_lines(sys.stdin.buffer, "standard input", form or ("jsonl" if several else "txt"), fields)


def of_lines(lines: BinaryIO | Iterable[bytes], name: str, form: Form, fields: Sequence[Field]) -> Iterator[Line]:
    """An input of each line; of `tsv` the first line names the fields, and of the other forms but `txt` blank lines are none.

    Raises:
        ExperimentError: a line is not of the form. It is named with its number.
    """
    head: list[str] | None = None
    for number, content in enumerate(lines, 1):
        where = f"{name}, line {number}"
        try:
            line = content.decode("utf-8").removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ExperimentError(
                f"{where} is not UTF-8 ({error.reason}): convert it, for instance with iconv"
            ) from None
        if form == "txt":
            yield where, line
        elif form == "tsv" and head is None:
            head = columns(line.split("\t"), where, fields)
        elif line.strip():
            yield where, row(line.split("\t"), head, where, fields) if form == "tsv" else value(line, where)


def columns(names: list[str], where: str, fields: Sequence[Field]) -> list[str]:
    """The names in the first line of a table, which must be those of fields."""
    known = [field.name for field in fields]
    for name in names:
        if name not in known:
            raise ExperimentError(f"{where} names a column {name!r}: {nearest(name, known)}")
    for field in fields:
        if not field.optional and field.name not in names:
            raise ExperimentError(f"{where} names no column {field.name!r}, but {', '.join(names)}")
    return names


def row(cells: list[str], head: Sequence[str] | None, where: str, fields: Sequence[Field]) -> dict[str, Any]:
    """A line of a table; a field of several texts has as many columns."""
    head = head or ()
    if len(cells) != len(head):
        raise ExperimentError(
            f"{where} has {len(cells)} columns, and the first line names {len(head)}: {', '.join(head)}"
        )
    texts = {
        field.name: [cell for name, cell in zip(head, cells, strict=True) if name == field.name] for field in fields
    }
    several = {field.name for field in fields if field.several}
    return {name: found if name in several else found[0] for name, found in texts.items() if found}


def value(line: str, where: str) -> Any:
    """A line of JSON: a text, a list of the texts of an input, or an object that names them."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExperimentError(f"{where} is no JSON: {error}") from None
    return tuple(found) if isinstance(found, list) else found


def answered(ask: Callable[[list[Any], int], list[Any]], lines: Iterable[Line]) -> Iterator[Any]:
    """The answer to each input. What is wrong with one is said when those before it are answered.

    Args:
        ask: the answers to several inputs, of which the first has this number among all.
    """
    done = 0
    for block in blocks(lines):
        yield from answers_before(ask, block, done)
        done += len(block)


def blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """More and more inputs at a time; those before a line that cannot be read, too."""
    block: list[Line] = []
    size = FIRST_BLOCK
    try:
        for line in lines:
            block.append(line)
            if len(block) == size:
                yield block
                block, size = [], min(2 * size, BLOCK)
    except ExperimentError:
        yield block
        raise
    yield block


def answers_before(ask: Callable[[list[Any], int], list[Any]], block: list[Line], first: int) -> Iterator[Any]:
    """The answers to a block; where an input is at fault, to those before it."""
    try:
        answers = ask([given for _, given in block], first) if block else []
    except (DataError, ModelError) as error:
        if len(block) == 1:
            where = block[0][0]
            raise ExperimentError(f"{where}: {error}" if where else str(error)) from None
        middle = len(block) // 2
        answers = itertools.chain(
            answers_before(ask, block[:middle], first), answers_before(ask, block[middle:], first + middle)
        )
    yield from answers
