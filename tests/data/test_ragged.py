"""Ragged items: the same examples in the same batches however a run is cut, few lengths of batches, little padding."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import multiprocessing

import jax
import numpy as np
import pytest

from data.contract import Examples
from data.errors import DataError
from data.forms import TextForm
from data.loader import load
from data.ragged import IGNORED, Buckets, best_cut, bucket_lengths, stacked

BATCH, BUCKETS, STEPS = 16, 4, 60


@dataclasses.dataclass(frozen=True, eq=False)
class Sounds(Examples):
    """Items that tell their number at each place, beside a mask and a set of as many labels as their size has digits."""

    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def sizes(self) -> np.ndarray:
        return self.lengths

    def at(self, items: np.ndarray, indices: np.ndarray, form: TextForm) -> dict[str, np.ndarray]:
        sizes = self.lengths[items]
        values = [np.full(size, item, np.int32) for item, size in zip(items, sizes, strict=True)]
        digits = [np.array([int(digit) for digit in str(size)], np.int32) for size in sizes]
        return {
            "input_values": stacked(values, form.length, 0),
            "attention_mask": stacked([np.ones(size, np.int32) for size in sizes], form.length, 0),
            "labels": stacked(digits, 3, IGNORED),
        }


def log_normal(count: int, median: float = 250, deviation: float = 0.3) -> np.ndarray:
    """Sizes from 1 to 500."""
    sizes = median * np.exp(np.random.default_rng(0).normal(0, deviation, count))
    return np.concatenate([np.clip(sizes.round(), 1, 500), [1, 500]]).astype(np.int64)


def sounds(sizes: np.ndarray | None = None, seed: int = 0) -> Sounds:
    form = TextForm(500, buckets=BUCKETS, together=BATCH)
    return Sounds(form=form, seed=seed, lengths=log_normal(300) if sizes is None else sizes)


def digests(share: tuple[int, int], first_step: int = 0, micro_batches: int = 1) -> list[list[tuple]]:
    """Of each step, the length of the batch and what tells each example of a process' share, row by row."""
    batches = load(
        sounds(), batch_size=BATCH, first_step=first_step, last_step=STEPS, shard=share, micro_batches=micro_batches
    )
    return [
        [
            (
                batch["input_values"].shape[-1],
                int(index),
                hashlib.sha256(b"".join(x.tobytes() for x in row)).hexdigest(),
            )
            for index, *row in zip(*(batch[name].reshape(-1, *batch[name].shape[2:]) for name in batch), strict=True)
        ]
        for batch in batches
    ]


@pytest.fixture(scope="module")
def expected() -> list[list[tuple]]:
    """Those of a run of one process, from its beginning to its end."""
    return digests((0, 1))


def test_a_batch_has_one_length_and_the_order_of_the_epoch(expected) -> None:
    examples = sounds()
    assert [index for step in expected for _, index, _ in step] == list(range(STEPS * BATCH))
    assert all(len({length for length, *_ in step}) == 1 for step in expected)
    for step, batch in enumerate(expected):
        items = examples.items(np.arange(step * BATCH, (step + 1) * BATCH))
        longest = examples.sizes[items].max()
        assert batch[0][0] == min(length for (length,) in examples.buckets.lengths if length >= longest)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_read_the_same_examples_in_the_same_batches(processes: int, expected) -> None:
    """On processes that know nothing of one another."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        shares = list(pool.map(digests, [(process, processes) for process in range(processes)]))
    assert [[row for share in shares for row in share[step]] for step in range(STEPS)] == expected


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_have_the_length_of_their_batch(micro_batches: int, expected) -> None:
    assert digests((0, 1), micro_batches=micro_batches) == expected


@pytest.mark.parametrize("first_step", [1, 17, 19, STEPS])
def test_going_on_from_a_step_needs_no_state(first_step: int, expected) -> None:
    assert digests((0, 1), first_step) == expected[first_step:]


def test_at_most_four_programs_are_compiled() -> None:
    step = jax.jit(lambda batch: batch["input_values"].sum() + batch["labels"].sum())
    lengths = set()
    for batch in load(sounds(), batch_size=BATCH, first_step=0, last_step=STEPS, micro_batches=2):
        step(batch)
        lengths.add(batch["input_values"].shape[-1])
    assert step._cache_size() == len(lengths) == BUCKETS


@pytest.mark.parametrize("count", [BATCH - 3, BATCH, 5 * BATCH + 7, 300])
def test_each_epoch_visits_every_item_once_in_an_order_of_its_own(count: int) -> None:
    examples = sounds(log_normal(count - 2))
    places = np.arange(count)
    epochs = [examples.items(places + count * epoch).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert sounds(log_normal(count - 2), seed=1).items(places).tolist() != epochs[0]


@pytest.mark.parametrize("median, deviation, most", [(250, 0.3, 0.15), (60, 0.8, None)])
def test_little_is_padded(median: float, deviation: float, most: float | None) -> None:
    """Under 15 % of the places, and hardly more than if each item had been alone in its bucket."""
    examples = sounds(log_normal(5_000, median, deviation))
    steps = 2 * len(examples) // BATCH
    places = sum(
        BATCH * examples.buckets.holding(examples.items(np.arange(step * BATCH, (step + 1) * BATCH)))[0]
        for step in range(steps)
    )
    used = examples.sizes[examples.items(np.arange(steps * BATCH))].sum()
    alone = examples.buckets.lengths[examples.buckets.members].sum()
    assert 1 - used / places < 1 - examples.sizes.sum() / alone + 0.01
    assert most is None or 1 - used / places < most


def test_long_and_short_batches_take_turns() -> None:
    examples = sounds(log_normal(2_000))
    starts = range(0, len(examples) - BATCH, BATCH)
    lengths = [examples.buckets.holding(examples.items(np.arange(start, start + BATCH)))[0] for start in starts]
    assert (np.diff(lengths) != 0).mean() > 0.5


def test_neighbours_of_an_item_change_from_epoch_to_epoch() -> None:
    examples = sounds()
    count = len(examples)

    def mates(epoch: int) -> set[frozenset]:
        items = examples.items(np.arange(count) + count * epoch)
        batches = (items[begin : begin + BATCH].tolist() for begin in range(0, count, BATCH))
        return {frozenset(pair) for batch in batches for pair in itertools.combinations(batch, 2)}

    first, second = mates(0), mates(1)
    assert len(first & second) < 0.4 * len(first)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_bucket_lengths_pad_least(count: int) -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 30)
    there = np.unique(sizes)

    def places(lengths) -> int:
        return int(np.array(lengths)[np.searchsorted(lengths, sizes)].sum())

    best = min(
        places([*cuts, there[-1]])
        for number in range(min(count, len(there)))
        for cuts in itertools.combinations(there[:-1].tolist(), number)
    )
    found = bucket_lengths(sizes, count)
    assert len(found) <= count and sorted(found) == found.tolist() and places(found) == best


def two_sides(count: int, deviation: float = 0.15) -> np.ndarray:
    """Sizes of texts and of their translations."""
    random = np.random.default_rng(0)
    source = 35 * np.exp(random.normal(0, 0.45, count))
    both = np.stack([source, source * np.exp(random.normal(0, deviation, count))], axis=1)
    return np.clip(both.round(), 3, 64).astype(np.int64)


def test_the_first_cut_of_two_sides_is_the_best_of_all() -> None:
    sizes = two_sides(40)

    def places(below: np.ndarray) -> int:
        return sum(len(part) * part.max(axis=0).sum() for part in (sizes[below], sizes[~below]) if len(part))

    cuts = [sizes[:, side] <= size for side in (0, 1) for size in np.unique(sizes[:, side])]
    saved, below = best_cut(sizes, np.ones(40, np.int64))
    assert (
        places(below) == len(sizes) * sizes.max(axis=0).sum() - saved <= min(map(places, cuts)) < saved + places(below)
    )


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_buckets_of_two_sides_hold_their_items(count: int) -> None:
    sizes = two_sides(2_000)
    buckets = Buckets.of(sizes, count, BATCH)
    assert len(buckets.lengths) == count and (buckets.lengths[-1] == sizes.max(axis=0)).all()
    assert (buckets.lengths[buckets.members] >= sizes).all()
    assert sorted(buckets.order(0, 3).tolist()) == list(range(2_000))
    for start in range(0, 2_000 - BATCH, BATCH):
        items = buckets.order(0, 3)[start : start + BATCH]
        assert (sizes[items] <= buckets.holding(items)).all() and [*buckets.holding(items)] in buckets.lengths.tolist()


def test_little_of_pairs_is_padded() -> None:
    sizes = two_sides(5_000)
    buckets = Buckets.of(sizes, 8, BATCH)
    batches = buckets.order(0, 0)[: 5_000 // BATCH * BATCH].reshape(-1, BATCH)
    places = sum(BATCH * sum(buckets.holding(batch)) for batch in batches)
    assert 1 - sizes[batches].sum() / places < 0.15 < 1 - sizes.sum() / (5_000 * sizes.max(axis=0).sum()) - 0.2


def test_lengths_of_buckets_are_few_of_very_many_sizes() -> None:
    sizes = np.random.default_rng(0).integers(1, 500_000, 20_000)
    buckets = Buckets.of(sizes[:, None], 4, BATCH)
    even = np.array([125_000, 250_000, 375_000, 500_000])
    assert len(buckets.lengths) == 4 and (buckets.lengths[buckets.members][:, 0] >= sizes).all()
    assert buckets.lengths[buckets.members].sum() <= even[np.searchsorted(even, sizes)].sum()


class Alike(Sounds):
    """The same without sizes."""

    sizes = None


def test_examples_of_one_length_have_no_buckets() -> None:
    with pytest.raises(DataError, match="set buckets to 1"):
        Alike(form=TextForm(8, buckets=2), lengths=np.ones(3, np.int64))


def test_an_example_alone_and_held_out_ones_have_the_length_of_the_form() -> None:
    assert sounds()[3]["input_values"].shape == (500,)
    assert sounds().in_order().batch(np.arange(2))["input_values"].shape == (2, 500)
