"""Ragged items: buckets that hold them, and an order of an epoch that puts items of one bucket beside one another."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

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


@dataclasses.dataclass(frozen=True, eq=False)
class Buckets:
    """Items in buckets.

    Attributes:
        lengths: of the buckets, ascending.
        members: the bucket of each item, the smallest that holds it.
        together: examples of a batch, which are stacked at the length of one bucket.
    """

    lengths: Int64[np.ndarray, " buckets"]
    members: Int64[np.ndarray, " items"]
    together: int

    @classmethod
    def of(cls, sizes: Int64[np.ndarray, " items"], count: int, together: int) -> "Buckets":
        """At most `count` buckets for items of these sizes."""
        lengths = bucket_lengths(sizes, count)
        return cls(lengths, np.searchsorted(lengths, sizes), together)

    def holding(self, items: Int64[np.ndarray, " batch"]) -> int:
        """The length of the smallest bucket that holds all of these."""
        return int(self.lengths[self.members[items].max()])

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
