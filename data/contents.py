"""What a source holds, item by item: a hash of each content, how much it is, and which items are broken. Read once, kept."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt64

from data.errors import DataError
from data.files import whole_file

Broken = Literal["refuse", "skip"]
"""What to do about items that cannot be read."""

Progress = Callable[[int, int], None]
"""Called with how many items of how many are read."""

READERS = 16
"""Threads that read items, at most."""

TOGETHER, AHEAD = 32, 64
"""Items that a thread reads one after another, and how many such lots wait at most."""


@dataclasses.dataclass(frozen=True)
class Content:
    """An item that was read: the hash and the amount of its content, or what is wrong with it."""

    hash: int = 0
    size: int = 0
    broken: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Joined(Sequence):
    """The items of one sequence behind those of another."""

    first: Sequence[Any]
    second: Sequence[Any]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The items of a source, in their order.

    Attributes:
        hashes: 64 bits of the hash of each content, by which duplicates are known.
        sizes: characters of a text; pixels of a picture.
        broken: what is wrong, in a sentence, by item.
    """

    hashes: UInt64[np.ndarray, " items"]
    sizes: Int64[np.ndarray, " items"]
    broken: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def of(cls, contents: Sequence[Content]) -> "Contents":
        return cls(
            np.array([content.hash for content in contents], np.uint64),
            np.array([content.size for content in contents], np.int64),
            {index: content.broken for index, content in enumerate(contents) if content.broken},
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, to be written; `from_arrays` reads them."""
        broken = np.frombuffer(json.dumps(list(self.broken.items())).encode(), np.uint8)
        return {"hashes": self.hashes, "sizes": self.sizes, "broken": broken}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Contents":
        broken = {int(index): reason for index, reason in json.loads(arrays["broken"].tobytes())}
        return cls(arrays["hashes"], arrays["sizes"], broken)

    def save(self, path: Path) -> None:
        with whole_file(path) as temporary:
            np.savez(temporary, **self.arrays())

    @classmethod
    def load(cls, path: Path) -> "Contents":
        with np.load(path) as arrays:
            return cls.from_arrays(arrays)

    def kept(
        self, broken: Broken, name: str, item: str, say: Callable[[str], None] = lambda message: None
    ) -> Int64[np.ndarray, " kept"]:
        """The items that can be read.

        Raises:
            DataError: some cannot, and are not to be skipped.
        """
        if broken not in ("refuse", "skip"):
            raise DataError(f"broken={broken!r}: expected refuse or skip")
        if not self.broken:
            return np.arange(len(self))
        first, count = self.broken[min(self.broken)], len(self.broken)
        more = "" if count == 1 else f"; {count:,} of the {len(self):,} {item}s of {name} are broken"
        if broken == "refuse":
            raise DataError(f"{first}{more}; `lacuna check` lists all, and --data.broken skip leaves them out")
        if count == len(self):
            raise DataError(f"none of the {count:,} {item}s of {name} can be read: {first}")
        say(f"{count:,} of the {len(self):,} {item}s of {name} are broken and left out: {first}")
        return np.delete(np.arange(len(self)), list(self.broken))


def spoken(say: Callable[[str], None], what: str, every: float = 10.0) -> Progress:
    """A progress that says, after two seconds and then at times, how much of `what` is read."""
    begin = time.monotonic()
    due = begin + 2

    def progress(done: int, count: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            say(f"reading {what}, once: {done:,} of {count:,}")
            due = time.monotonic() + every

    return progress


def content_hash(content: bytes) -> int:
    """64 bits of a hash."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def read_all(
    read: Callable[[int], Content], count: int, progress: Progress | None = None, threads: int | None = None
) -> list[Content]:
    """The contents of items 0 to `count - 1`, read by threads, in order."""
    threads = threads or min(READERS, 2 * (os.cpu_count() or 1))
    return list(_reported(_read(read, count, threads), count, progress))


def _read(read: Callable[[int], Content], count: int, threads: int) -> Iterator[Content]:
    lots = [range(begin, min(begin + TOGETHER, count)) for begin in range(0, count, TOGETHER)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(lots), AHEAD):
            for contents in pool.map(lambda lot: [read(index) for index in lot], lots[begin : begin + AHEAD]):
                yield from contents


def _reported(contents: Iterator[Content], count: int, progress: Progress | None) -> Iterator[Content]:
    for number, content in enumerate(contents, 1):
        if progress is not None:
            progress(number, count)
        yield content
