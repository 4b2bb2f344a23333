"""The pictures to train on and to hold out: what they contain, which of them can be read, and where they are split."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from data.contents import Broken, Contents, Joined, Progress
from data.contract import Source
from data.file_contents import Reading
from data.images.pictures import examine
from data.images.sources import Opened, Picture, Pictures
from data.splits import split_by_content
from data.survey import Survey, in_both, repeated, share_of


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The pictures of a split, what they contain where that was read, and the places of those that can be read."""

    pictures: Pictures
    contents: Contents | None
    kept: Int64[np.ndarray, " kept"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sides:
    """What is trained on and what is held out.

    Attributes:
        opened: the source.
        training, held_out: `None` where there is nothing to train on; where what is held out is a part of the other.
        training_places, held_out_places: of the pictures on either side.
    """

    opened: Opened
    training: Part | None
    held_out: Part | None
    training_places: Int64[np.ndarray, " training"]
    held_out_places: Int64[np.ndarray, " held_out"]

    @property
    def parts(self) -> list[Part]:
        return [part for part in (self.training, self.held_out) if part is not None]

    @property
    def pictures(self) -> Sequence[Picture]:
        """All of them: those to train on, and behind them those of a split that is held out."""
        return functools.reduce(Joined, (part.pictures for part in self.parts))

    @property
    def items(self) -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
        """The places of the two sides among `pictures`."""
        before = 0 if None in (self.training, self.held_out) else len(self.training.pictures)
        return self.training_places, before + self.held_out_places

    @property
    def fingerprint(self) -> str:
        """A hash of the classes and of each picture and its label, in their order; of a data set with a version, that."""
        digest = hashlib.sha256(repr((self.opened.classes, self.opened.version)).encode())
        for part in self.parts:
            digest.update(f"{len(part.kept)} pictures".encode())
            if not self.opened.version:
                hashes, labels = part.contents.hashes[part.kept], part.pictures.labels[part.kept]
                digest.update(hashes.astype("<u8").tobytes() + labels.astype("<i4").tobytes())
            elif len(part.kept) < len(part.pictures):
                digest.update(part.kept.astype("<i8").tobytes())
        return digest.hexdigest()[:32]

    def survey(self) -> Survey:
        """The counts of pictures that were all read."""
        parts = self.parts
        hashes = np.concatenate([part.contents.hashes[part.kept] for part in parts])
        first, last = parts[0].contents.hashes, parts[-1].contents.hashes
        train, held_out = self.training_places, self.held_out_places
        classes = np.zeros(len(self.opened.classes), np.int64)
        for part in parts:
            for place in part.kept.tolist():
                classes[list(np.atleast_1d(part.pictures[place].label))] += 1
        counts = {
            "pictures that can be read": f"{len(hashes):,}",
            "pictures that came before": f"{repeated(hashes):,}",
            "held-out pictures that are trained on, too": f"{in_both(first, last, train, held_out):,}",
            "pictures to train on": f"{len(train):,}",
            "pictures held out": share_of(len(held_out), len(hashes)),
            "pixels": f"{sum(int(part.contents.sizes[part.kept].sum()) for part in parts):,}",
            "classes": f"{len(classes):,}, of {classes.min():,} to {classes.max():,} pictures",
        }
        return Survey(counts, tuple(reason for part in parts for reason in part.contents.broken.values()))


def look(
    opened: Opened,
    training: Pictures | None,
    held_out: Pictures | None,
    *,
    settings: Source,
    broken: Broken,
    say: Callable[[str], None],
    progress: Progress,
    again: bool = False,
) -> Sides:
    """Look at the pictures of both splits, or at those of one and split it.

    Args:
        held_out: `None` where a part of the others is to be held out, by `split_by_content`.
        settings: of the source: its name, its cache, how much is held out.
        again: look even where somebody did.

    Raises:
        DataError: a picture is broken, and not to be left out; there is nothing to split.
    """
    # A data set with a version was checked when it was prepared, and nobody needs its contents unless it is split.
    read = held_out is None or not opened.version or broken == "skip"
    reading = Reading(
        "picture", examine, settings.cache_folder, read, decode=broken == "skip", again=again, progress=progress
    )

    def part(pictures: Pictures) -> Part:
        contents = pictures.contents(reading)
        every = np.arange(len(pictures))
        return Part(
            pictures, contents, every if contents is None else contents.kept(broken, settings.source, "picture", say)
        )

    first = None if training is None else part(training)
    second = None if held_out is None else part(held_out)
    if second is not None:
        return Sides(opened, first, second, np.arange(0) if first is None else first.kept, second.kept)
    hashes = first.contents.hashes[first.kept]
    sizes, holder = np.ones(len(hashes), np.int64), f"{settings.source} holds"
    train, held = split_by_content(hashes, sizes, settings.held_out, settings.split_seed, holder, "picture")
    return Sides(opened, first, None, first.kept[train], first.kept[held])
