"""Ragged items: buckets that hold them, and an order of an epoch that puts items of one bucket beside one another."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from data.order import shuffled_places

CANDIDATES = 1_024
"""Lengths among which those of buckets are chosen, at most."""


IGNORED = -100
"""The label of a place that is not asked (as in `transformers`), which sets of labels are filled up with."""


def stacked(rows: Sequence[np.ndarray], length: int, fill: int) -> np.ndarray:
    """Rows of any lengths as one array `[rows, length, ...]`, cut where they are longer, `fill` behind what is there."""
    padded = np.full((len(rows), length, *rows[0].shape[1:]), fill, rows[0].dtype)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row[:length]
    return padded


def bucket_lengths(sizes: Int64[np.ndarray, " items"], count: int) -> Int64[np.ndarray, " buckets"]:
    """At most so many lengths, ascending, that pad the items least where each takes the smallest that holds it.

    By dynamic programming over the number of buckets and the sizes that occur.
    """
    lengths, counts = np.unique(sizes, return_counts=True)
    if len(lengths) > CANDIDATES:
        lengths = np.unique(np.quantile(sizes, np.linspace(0, 1, CANDIDATES), method="higher"))
        counts = np.bincount(np.searchsorted(lengths, sizes), minlength=len(lengths))
    before = np.cumsum(counts)  # items up to each length
    cost, previous = lengths * before, []  # of buckets that end with each length
    ends = np.arange(len(lengths))
    for _ in range(count - 1):
        costs = cost[:, None] + lengths * (before - before[:, None])
        costs = np.where(ends[:, None] < ends, costs, np.iinfo(np.int64).max)
        last = costs.argmin(axis=0)
        better = costs[last, ends] < cost
        previous.append(np.where(better, last, -1))
        cost = np.where(better, costs[last, ends], cost)
    chosen = [len(lengths) - 1]
    for last in reversed(previous):
        if last[chosen[-1]] >= 0:
            chosen.append(last[chosen[-1]])
    return lengths[chosen[::-1]]


def bucket_sides(sizes: Int64[np.ndarray, "items sides"], count: int) -> Int64[np.ndarray, "buckets sides"]:
    """At most so many buckets for items of several sizes, as pairs of texts are; the last bucket holds all of them.

    Greedily: of all cuts of one bucket into two, between two sizes of one side, the one that saves most places is made next.
    """
    rows, counts = np.unique(sizes, axis=0, return_counts=True)
    parts = [(best_cut(rows, counts), rows, counts)]
    while len(parts) < count:
        number = max(range(len(parts)), key=lambda number: parts[number][0][0])
        (saved, below), rows, counts = parts[number]
        if not saved:
            break
        parts[number : number + 1] = [
            (best_cut(rows[part], counts[part]), rows[part], counts[part]) for part in (below, ~below)
        ]
    lengths = np.stack([rows.max(axis=0) for _, rows, _ in parts])
    lengths = lengths[np.argsort(lengths.sum(axis=1), kind="stable")]
    lengths[-1] = sizes.max(axis=0)
    return lengths


def best_cut(
    rows: Int64[np.ndarray, "rows sides"], counts: Int64[np.ndarray, " rows"]
) -> tuple[int, Bool[np.ndarray, " rows"]]:
    """How many places the best cut of a bucket saves, and which of its sizes, each so often there, lie below it."""
    saved, below = 0, np.zeros(len(rows), bool)
    for side in range(rows.shape[1]):
        order = np.argsort(rows[:, side], kind="stable")
        before = np.cumsum(counts[order])
        low = np.maximum.accumulate(rows[order]).sum(axis=1)
        high = np.maximum.accumulate(rows[order][::-1])[::-1].sum(axis=1)
        gains = before[-1] * high[0] - before[:-1] * low[:-1] - (before[-1] - before[:-1]) * high[1:]
        if len(gains) and gains.max() > saved:
            saved, below = int(gains.max()), np.zeros(len(rows), bool)
            below[order[: gains.argmax() + 1]] = True
    return saved, below


def holders(
    sizes: Int64[np.ndarray, "items sides"], lengths: Int64[np.ndarray, "buckets sides"]
) -> Int64[np.ndarray, " items"]:
    """The first bucket that holds each item."""
    return (sizes[:, None] <= lengths).all(axis=2).argmax(axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Buckets:
    """Items in buckets.

    Attributes:
        lengths: of the buckets, of each side of an item one; by their sum. The last holds all items.
        members: the bucket of each item, the first that holds it.
        together: examples of a batch, which are stacked at the lengths of one bucket.
    """

    lengths: Int64[np.ndarray, "buckets sides"]
    members: Int64[np.ndarray, " items"]
    together: int

    @classmethod
    def of(cls, sizes: Int64[np.ndarray, "items sides"], count: int, together: int) -> "Buckets":
        """At most `count` buckets for items of these sizes."""
        one = sizes.shape[1] == 1
        lengths = bucket_lengths(sizes[:, 0], count)[:, None] if one else bucket_sides(sizes, count)
        return cls(lengths, holders(sizes, lengths), together)

    def holding(self, items: Int64[np.ndarray, " batch"]) -> tuple[int, ...]:
        """The lengths of the first bucket that holds all of these."""
        return self.first(self.lengths[self.members[items]])

    def first(self, sizes: Int64[np.ndarray, "items sides"]) -> tuple[int, ...]:
        """The lengths of the first bucket that holds items of these sizes."""
        needed = np.max(sizes, axis=0)
        return tuple(self.lengths[(needed <= self.lengths).all(axis=1).argmax()].tolist())

    def filled(self, sizes: Int64[np.ndarray, "items sides"]) -> "Buckets":
        """The same buckets with other items, which fit into the last."""
        return Buckets(self.lengths, holders(sizes, self.lengths), self.together)

    def order(self, seed: int, epoch: int) -> Int64[np.ndarray, " items"]:
        """The items in the order of an epoch, each once: a function of seed, epoch and sizes.

        Items of one bucket are shuffled and cut into batches, and these are shuffled. Batches are counted over the whole run:
        what an epoch gives to the one that it begins in and to the one that it ends in is of the smallest bucket.
        """
        return self._orders(seed, epoch)

    @functools.cached_property
    def _orders(self):
        return functools.lru_cache(maxsize=2)(self._order)

    def _order(self, seed: int, epoch: int) -> Int64[np.ndarray, " items"]:
        size = len(self.members)
        shuffled = shuffled_places(seed, np.full(size, epoch), np.arange(size), size)
        items = shuffled[np.argsort(self.members[shuffled], kind="stable")]
        first = min(-epoch * size % self.together, size)
        batches, last = divmod(size - first, self.together)
        whole = items[first + last :].reshape(batches, self.together)
        if batches:
            whole = whole[shuffled_places(seed, np.full(batches, epoch), np.arange(batches), batches)]
        return np.concatenate([items[:first], whole.ravel(), items[first : first + last]])
