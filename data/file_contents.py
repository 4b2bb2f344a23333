"""The contents of files of pictures or audio, remembered by name, size and times: a file is read again only where it changed."""

import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from data.contents import Content, Contents, Progress, content_hash, read_all
from data.errors import DataError
from data.files import locked, state_of, whole_file

SMALL = 2**28
"""Bytes of files up to which all are decoded when they are first looked at: that takes seconds."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the contents of files are read.

    Attributes:
        item: what a file holds, in a word.
        examine: the amount of a file's content (pixels, samples) from its bytes and name, if it is whole; with `decode=True` it
            is decoded in any case. Raises `DataError` where it is not whole.
        cache: where what was read is remembered, a file for a folder or data set.
        read: read them where nobody did; else only where that takes no time.
        decode: decode each file, which finds more of the broken ones; else, of more than `SMALL` bytes, those alone whose
            header and end do not show that they are whole.
        again: read all of them, whatever is remembered.
        progress: called with how many of the files that have to be read are.
    """

    item: str
    examine: Callable[..., int]
    cache: Path
    read: bool = True
    decode: bool = False
    again: bool = False
    progress: Progress | None = None


def file_contents(folder: str, names: np.ndarray, reading: Reading) -> Contents:
    """The contents of files in a folder, whose `names` are bytes."""
    place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    path = reading.cache / f"{reading.item}s" / f"{place}.npz"

    def file(index: int) -> str:
        return os.path.join(folder, os.fsdecode(names[index]))

    states = np.array([state_of(file(index)) for index in range(len(names))], np.int64).reshape(-1, 3)
    with locked(path):
        contents, decoded, valid = _known(path, names, states)
        decode = reading.decode or states[:, 0].sum() <= SMALL
        stale = np.flatnonzero(reading.again | ~valid | (decode & ~decoded))
        if len(stale):
            read = Contents.of(
                read_all(lambda number: _content(file(stale[number]), decode, reading), len(stale), reading.progress)
            )
            contents.hashes[stale], contents.sizes[stale], decoded[stale] = read.hashes, read.sizes, decode
            broken = {index: reason for index, reason in contents.broken.items() if index not in set(stale.tolist())}
            broken |= {int(stale[number]): reason for number, reason in read.broken.items()}
            contents = Contents(contents.hashes, contents.sizes, dict(sorted(broken.items())))
            with whole_file(path) as temporary:
                np.savez(temporary, names=names, states=states, decoded=decoded, **contents.arrays())
    return contents


def _known(
    path: Path, names: np.ndarray, states: Int64[np.ndarray, "files 3"]
) -> tuple[Contents, np.ndarray, np.ndarray]:
    """What is remembered of these files, which of them were decoded, and of which nothing is remembered that holds."""
    count = len(names)
    blank = Contents(np.zeros(count, np.uint64), np.zeros(count, np.int64), {})
    try:
        with np.load(path) as arrays:
            known, old = Contents.from_arrays(arrays), {name: arrays[name] for name in ("names", "states", "decoded")}
    except (FileNotFoundError, zipfile.BadZipFile):
        return blank, np.zeros(count, bool), np.zeros(count, bool)
    order = np.argsort(old["names"], kind="stable")
    rows = order[np.minimum(np.searchsorted(old["names"], names, sorter=order), len(order) - 1)]
    valid = (old["names"][rows] == names) & (old["states"][rows] == states).all(axis=1)
    broken = {
        index: known.broken[row] for index, row in enumerate(rows.tolist()) if valid[index] and row in known.broken
    }
    return Contents(known.hashes[rows], known.sizes[rows], broken), old["decoded"][rows] & valid, valid


def _content(path: str, decode: bool, reading: Reading) -> Content:
    try:
        content = Path(path).read_bytes()
        size = reading.examine(content, path, decode=decode)
    except DataError as error:
        return Content(broken=str(error))
    except FileNotFoundError:
        return Content(broken=f"there is no {reading.item} {path}: it is a link to nothing")
    except PermissionError:
        return Content(broken=f"{path} may not be read")
    return Content(content_hash(content), size)
