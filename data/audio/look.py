"""Looks at all recordings of a source: lengths, which of them can be read, and the split into training and held-out ones."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.audio.recordings import Opened, Recordings
from data.contents import Broken
from data.contract import Source
from data.file_contents import Reading
from data.splits import split_by_content


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """The result of looking at the recordings of a source.

    Attributes:
        parts: the splits in use.
        hashes, lengths, values: of the recordings of all parts in turn.
        training, held_out: indices of the recordings of either side.
        given: whether the source itself has a held-out split.
    """

    parts: tuple[Recordings, ...]
    hashes: np.ndarray
    lengths: Int64[np.ndarray, " recordings"]
    values: list[Any]
    classes: tuple[str, ...]
    training: Int64[np.ndarray, " training"]
    held_out: Int64[np.ndarray, " held_out"]
    given: bool
    broken: tuple[str, ...] = ()

    @property
    def kept(self) -> Int64[np.ndarray, " kept"]:
        return np.union1d(self.training, self.held_out)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(
            repr((self.classes, [self.values[n] for n in self.kept] if self.values else ())).encode()
        )
        for array in (self.hashes[self.kept], self.training, self.held_out):
            digest.update(np.ascontiguousarray(array).astype("<u8").tobytes())
        return digest.hexdigest()[:32]

    def without(self, left_out: Sequence[int]) -> "Looked":
        """The same without some recordings."""
        training, held_out = (np.setdiff1d(side, left_out) for side in (self.training, self.held_out))
        return dataclasses.replace(self, training=training, held_out=held_out)


def looked_at(
    opened: Opened,
    training: Sequence[Recordings],
    held_out: Recordings | None,
    settings: Source,
    reading: Reading,
    broken: Broken,
    say: Callable[[str], None],
) -> Looked:
    """Looks at the recordings of all splits, and splits the training recordings if none is held out.

    Raises:
        DataError: a recording is broken, and `broken` does not say to leave it out; there is nothing to split.
    """
    parts = (*training, *([] if held_out is None else [held_out]))
    contents = [part.contents(reading, settings.sampling_rate) for part in parts]
    begins = np.cumsum([0, *map(len, parts)])[:-1]
    kept = [
        begin + one.kept(broken, settings.source, "recording", say) for begin, one in zip(begins, contents, strict=True)
    ]
    hashes, lengths = (np.concatenate([vars(one)[name] for one in contents]) for name in ("hashes", "sizes"))
    if held_out is None:
        every, holder = np.concatenate(kept), f"{settings.source} holds"
        amounts = (hashes[every], lengths[every])
        sides = split_by_content(*amounts, settings.held_out, settings.split_seed, holder, "recording")
        places = [every[side] for side in sides]
    else:
        places = [np.concatenate([np.zeros(0, np.int64), *kept[:-1]]), kept[-1]]
    return Looked(
        parts,
        hashes,
        lengths,
        [value for part in parts for value in part.values],
        opened.classes,
        *places,
        given=held_out is not None,
        broken=tuple(reason for one in contents for reason in one.broken.values()),
    )
