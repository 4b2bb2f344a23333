"""What is in a source once all of it has been read: counts, and what is broken, for `lacuna check`."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64, UInt64


@dataclasses.dataclass(frozen=True)
class Survey:
    """Counts of a source by name, and what is wrong with each item that cannot be read, in a sentence."""

    counts: Mapping[str, str]
    broken: tuple[str, ...]


def share_of(part: int, whole: int) -> str:
    """A count with its part of another: `5 (4.8 %)`."""
    return f"{part:,} ({part / max(whole, 1):.1%})".replace("%", " %")


def repeated(hashes: UInt64[np.ndarray, " items"]) -> int:
    """How many items are the same as one before."""
    return len(hashes) - len(np.unique(hashes))


def in_both(
    hashes: UInt64[np.ndarray, " items"],
    others: UInt64[np.ndarray, " others"],
    train: Int64[np.ndarray, " train"],
    held_out: Int64[np.ndarray, " held_out"],
) -> int:
    """How many of the `held_out` among `others` are the same as one to train on among `hashes`."""
    return int(np.isin(others[held_out], hashes[train]).sum())


def counted(
    items: str,
    hashes: UInt64[np.ndarray, " items"],
    train: Int64[np.ndarray, " train"],
    held_out: Int64[np.ndarray, " held_out"],
) -> dict[str, str]:
    """How many items there are, how many of them are there twice, and on both sides."""
    return {
        f"{items} that can be read": f"{len(hashes):,}",
        f"{items} that came before": f"{repeated(hashes):,}",
        f"held-out {items} that are trained on, too": f"{in_both(hashes, hashes, train, held_out):,}",
    }


def text_counts(
    sizes: Int64[np.ndarray, " documents"], held_out: Int64[np.ndarray, " held_out"], documents: str
) -> dict[str, str]:
    """How many documents and characters there are, and how many of them are held out."""
    count, characters = len(sizes), int(sizes.sum())
    return {
        f"{documents} that are blank": f"{int((sizes == 0).sum()):,}",
        f"{documents} to train on": f"{count - len(held_out):,}",
        f"{documents} held out": share_of(len(held_out), count),
        "characters": f"{characters:,}",
        "characters held out": share_of(int(sizes[held_out].sum()), characters),
    }
