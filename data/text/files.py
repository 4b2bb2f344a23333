"""Text that lies in files: `.txt`, each a document, long ones cut at paragraphs; `.jsonl`, each line a document."""

import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from data.errors import DataError
from data.files import files_below, locked, state_of, whole_file

SUFFIXES = (".txt", ".jsonl")
"""How the names of files of documents end, in any case."""

VERSION = 2
"""To be raised whenever the same files would give other documents."""

LONGEST, SECTION = 65_536, (4_096, 16_384)
"""Bytes of a `.txt` beyond which it is cut into sections, so that one large file can be trained on and held out; and the
least and most bytes of a section."""

FEW, LONGEST_OF_FEW, SECTION_OF_FEW = 8, 8_192, (1_024, 4_096)
"""The same where there are fewer than so many files, of which a whole one would be too much to hold out."""

SECTION_OF_ONE = (256, 1_024)
"""The same of a text that is the only one, however short."""

ENDS = 4
"""A section ends, once it is long enough, at about one of so many paragraphs."""

LONG_LINE = 200
"""Bytes beyond which a line is a paragraph."""


class TextFiles(Sequence):
    """Documents of files, read when they are asked for.

    A `.txt` of more than `LONGEST` bytes is cut into sections at the ends of paragraphs (a blank line, or a long line);
    where there are fewer than `FEW` files, one of more than `LONGEST_OF_FEW`; and a single one in any case. Where a section
    ends is decided by the paragraph that it ends with, so that a change in one place of a file leaves the sections elsewhere
    as they are. Each section is a document.
    """

    def __init__(self, folder: Path, names: Sequence[str], rows: Int64[np.ndarray, "documents 4"]):
        """`rows`: file, first byte, byte behind the last, and the number of the line (`.jsonl`) or section (0: all)."""
        self._folder, self._names, self._rows = folder, names, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        file, begin, end, number = self._rows[index].tolist()
        path = self._folder / self._names[file]
        text = read_text(path, begin, end)
        if path.suffix.lower() == ".jsonl":
            return _of_json(text, f"{path}, line {number}")
        return {"title": path.stem + f" ({number})" * (number > 0), "text": text}


def open_text_files(path: Path, cache: Path) -> tuple[TextFiles, str]:
    """The documents of a file or of a folder of them, and a string that changes whenever a file does.

    Of a folder that holds `.txt` files those alone are taken.

    Raises:
        DataError: there is none.
    """
    if path.is_dir():
        folder, names = path, files_below(path, SUFFIXES)
        names = [name for name in names if name.lower().endswith(SUFFIXES[0])] or names
        if not names:
            raise DataError(
                f"{path} holds no .txt file, here or deeper: put one UTF-8 text file per document there, or .jsonl files"
                ' with a {"text": …} a line'
            )
    else:
        folder, names = path.parent, [path.name]
    states = [(name, *state_of(folder / name)) for name in names]
    state = f"{VERSION}{folder.resolve()}{states}"
    place = cache / "text_files" / f"{hashlib.sha256(state.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.npy"
    with locked(place):
        if not place.exists():
            rows = list(_index(folder, names))
            if len(rows) == 1 and names[0].lower().endswith(".txt"):
                rows = list(_sections(folder, names, 0, SECTION_OF_ONE))
            with whole_file(place) as temporary:
                np.save(temporary, np.array(rows, np.int64).reshape(-1, 4))
    rows = np.load(place)
    if not len(rows):
        raise DataError(f"{path} holds no document: its files are empty")
    return TextFiles(folder, names, rows), state


def _index(folder: Path, names: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    for file, name in enumerate(names):
        path = folder / name
        size = state_of(path)[0]
        if name.lower().endswith(".jsonl"):
            yield from _lines(path, file)
        elif size > LONGEST:
            yield from _sections(folder, names, file, SECTION)
        elif size > LONGEST_OF_FEW and len(names) < FEW:
            yield from _sections(folder, names, file, SECTION_OF_FEW)
        else:
            yield file, 0, size, 0


def _lines(path: Path, file: int) -> Iterator[tuple[int, int, int, int]]:
    end = 0
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                begin, end = end, end + len(line)
                if line.strip():
                    yield file, begin, end, number
    except OSError:
        yield file, 0, 0, 0  # whoever reads it says so


def _sections(
    folder: Path, names: Sequence[str], file: int, section: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    begin = 0
    try:
        with open(folder / names[file], "rb") as lines:
            for number, end in enumerate(section_ends(lines, *section), 1):
                yield file, begin, end, number
                begin = end
    except OSError:
        yield file, 0, 0, 0


def section_ends(lines: Iterable[bytes], least: int, most: int) -> Iterator[int]:
    """Where the sections of a file end, as byte offsets, the last one's too.

    Args:
        least: bytes of a section, unless it is the last.
        most: bytes from which on it ends with the line.
    """
    begin = place = paragraph = 0
    after_paragraph = False
    for line in itertools.chain(lines, [b""]):
        text, size = line.strip(), place - begin
        ends_paragraph = after_paragraph and bool(text)
        if size and (not line or size >= most or (size >= least and ends_paragraph and paragraph % ENDS == 0)):
            yield place
            begin = place
        paragraph = zlib.crc32(text, 0 if ends_paragraph else paragraph)
        after_paragraph = not text or len(text) > LONG_LINE
        place += len(line)


def read_text(path: Path, begin: int = 0, end: int | None = None) -> str:
    """The text of a file, or of the bytes from `begin` to before `end`.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            file.seek(begin)
            content = file.read(None if end is None else end - begin)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = begin + error.start
        raise DataError(f"{path} is not UTF-8 (byte {place}): convert it, for instance with iconv") from None
    except FileNotFoundError:
        raise DataError(f"{path} is not there, or is a link to nothing") from None
    except PermissionError:
        raise DataError(f"{path} may not be read") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _of_json(line: str, name: str) -> dict[str, str]:
    try:
        item = json.loads(line.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is no JSON: {error}") from None
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        given = ", ".join(map(str, item)) if isinstance(item, dict) else type(item).__name__
        raise DataError(f'{name} has no text "text", but {given}')
    return {"title": str(item.get("title", "")), "text": item["text"]}
