"""Looks at all scenes of a source: their sizes, which of them can be read, and the split into training and held-out scenes."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from data.contents import Broken
from data.contract import Source
from data.errors import DataError
from data.file_contents import Reading
from data.scenes.items import Items, unpacked
from data.scenes.opening import Opened
from data.splits import split_by_content
from data.survey import Survey, repeated, share_of


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """The result of looking at the scenes of a source.

    Attributes:
        parts: the splits in use.
        hashes, pixels: hash and size of each scene, of all parts in turn.
        training, held_out: indices of the scenes of either side.
        given: whether the source itself has a held-out split.
        broken: errors in scenes and annotations.
    """

    opened: Opened
    parts: tuple[Items, ...]
    hashes: np.ndarray
    pixels: Int64[np.ndarray, "scenes 2"]
    training: Int64[np.ndarray, " training"]
    held_out: Int64[np.ndarray, " held_out"]
    given: bool
    broken: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.opened.classes, self.opened.broken)).encode())
        for part in self.parts:
            digest.update(part.digest.encode())
        for array in (self.hashes[np.union1d(self.training, self.held_out)], self.training, self.held_out):
            digest.update(np.ascontiguousarray(array).astype("<u8").tobytes())
        return digest.hexdigest()[:32]

    def survey(self) -> Survey:
        """Counts for `lacuna check`."""
        kept = np.union1d(self.training, self.held_out)
        sizes = self.pixels[kept]
        return Survey(
            {
                "scenes that can be read": f"{len(kept):,}",
                "scenes that came before": f"{repeated(self.hashes[kept]):,}",
                "scenes to train on": f"{len(self.training):,}",
                "scenes held out": share_of(len(self.held_out), len(kept)),
                "height": f"{sizes[:, 0].min():,} to {sizes[:, 0].max():,} pixels",
                "width": f"{sizes[:, 1].min():,} to {sizes[:, 1].max():,} pixels",
                "classes": f"{len(self.opened.classes):,}",
            },
            self.broken,
        )


def looked_at(
    opened: Opened,
    training: Items | None,
    held_out: Items | None,
    settings: Source,
    reading: Reading,
    broken: Broken,
    say: Callable[[str], None],
) -> Looked:
    """Looks at the scenes of both splits, and splits the training scenes if none is held out.

    Raises:
        DataError: a scene or an annotation is broken, and `broken` does not say to leave it out; there is nothing to split.
    """
    if opened.broken:
        count, first = len(opened.broken), opened.broken[0]
        more = "" if count == 1 else f"; {count:,} annotations of {settings.source} are broken"
        if broken == "refuse":
            raise DataError(f"{first}{more}; `lacuna check` lists all, and --data.broken skip leaves them out")
        say(f"{count:,} annotations of {settings.source} are broken and left out: {first}")
    parts = tuple(part for part in (training, held_out) if part is not None)
    contents = [part.contents(reading) for part in parts]
    begins = np.cumsum([0, *map(len, parts)])[:-1]
    kept = [
        begin + one.kept(broken, settings.source, "scene", say) for begin, one in zip(begins, contents, strict=True)
    ]
    hashes, sizes = (np.concatenate([vars(one)[name] for one in contents]) for name in ("hashes", "sizes"))
    if held_out is None:
        chosen, holder = kept[0], f"{settings.source} holds"
        ones = np.ones(len(chosen), np.int64)
        sides = split_by_content(hashes[chosen], ones, settings.held_out, settings.split_seed, holder, "scene")
        places = [chosen[side] for side in sides]
    else:
        places = [kept[0] if training is not None else np.zeros(0, np.int64), kept[-1]]
    return Looked(
        opened,
        parts,
        hashes,
        unpacked(sizes),
        *places,
        given=held_out is not None,
        broken=(*opened.broken, *(reason for one in contents for reason in one.broken.values())),
    )
