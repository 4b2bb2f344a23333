"""Which documents are held out: a rule that looks at each one alone."""

import numpy as np
from jaxtyping import Int64, UInt64

from data.errors import DataError

LEAST = 0.25
"""Part of the text due to a side that it has at least."""


def split_by_content(
    hashes: UInt64[np.ndarray, " documents"],
    sizes: Int64[np.ndarray, " documents"],
    held_out: float,
    seed: int,
    holder: str,
    item: str,
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]:
    """Numbers of the documents to train on and to hold out, each ascending; at least one on either side.

    A document's hash and the seed give a number from 0 to 1, and it is held out where that is below `held_out`. So the
    same text is on one side wherever it stands, how many there are decides nothing, and one more document moves no other.

    Two exceptions keep a small source of use. A side that would have less than `LEAST` of the text due to it gets the
    documents with the numbers next to `held_out`, as few as that takes. A document with more than half of all text (more
    than `held_out`, where that is larger) is trained on.

    Args:
        hashes: of the content of each document.
        sizes: how much of it there is: characters of a text; 1 of a picture.
        held_out: fraction of the documents, and of the text, to hold out, between 0 and 1.
        seed: of the split, not of a run: all runs to be compared share it.
        holder, item: who has how many of what, in a sentence (`"FOLDER holds"`, `"document"`).

    Raises:
        DataError: no such split exists.
    """
    if not 0 < held_out < 1:
        raise DataError(f"held_out={held_out}: the fraction of {item}s to hold out must lie between 0 and 1")
    if len(hashes) < 2:
        raise DataError(f"{holder} {len(hashes)} {item}(s), and a split by {item} needs at least 2: add {item}s")
    numbers, members = np.unique(_numbers(hashes, seed), return_inverse=True)
    if len(numbers) < 2:
        raise DataError(f"{holder} {len(hashes)} {item}s that are all the same: add {item}s that differ")
    amounts = np.bincount(members, weights=sizes)
    total = amounts.sum()
    order = np.flatnonzero(amounts <= max(0.5, held_out) * total)  # the candidates, by their numbers
    most = len(order) - (len(order) == len(numbers))
    held = np.concatenate([[0], np.cumsum(amounts[order])])  # text of the first so many
    count = np.searchsorted(numbers[order], np.uint64(int(held_out * 2**64)))
    count = min(count, np.searchsorted(held, total - LEAST * (1 - held_out) * total, side="right") - 1)
    count = max(count, np.searchsorted(held, LEAST * held_out * total))
    is_held = np.isin(members, order[: int(np.clip(count, 1, most))])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _numbers(hashes: UInt64[np.ndarray, " documents"], seed: int) -> UInt64[np.ndarray, " documents"]:
    """The hashes mixed with the seed, uniform below 2⁶⁴, by the finaliser of SplitMix64 (Steele et al., "Fast Splittable
    Pseudorandom Number Generators", OOPSLA 2014)."""
    mixed = hashes.astype(np.uint64) + np.random.SeedSequence(seed).generate_state(1, np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
