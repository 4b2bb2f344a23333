"""The stream is a function of seed and step: of nothing else."""

import dataclasses
import os
import time

import numpy as np
import pytest
from einops import rearrange

from data import DataError
from data.loader import load

STEPS, BATCH = 5, 24


@dataclasses.dataclass(frozen=True)
class Squares:
    """Examples that tell their place: (i, i²)."""

    breaks_at: int = -1
    dies_at: int = -1

    def batch(self, indices: np.ndarray, among: np.ndarray) -> dict[str, np.ndarray]:
        if self.breaks_at in indices:
            raise OSError("the disk is gone")
        if self.dies_at in indices:
            os._exit(9)
        return {"index": indices.astype(np.uint32), "pair": np.stack([indices, indices**2], axis=1)}


def _expected(first_step: int, last_step: int) -> np.ndarray:
    return np.arange(first_step * BATCH, last_step * BATCH).reshape(-1, BATCH)


def _stream(**settings) -> list[dict[str, np.ndarray]]:
    return list(load(Squares(), batch_size=BATCH, **settings))


@pytest.mark.parametrize("micro_batches", [1, 2, 3])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_all_processes_make_the_global_batch(micro_batches: int, processes: int) -> None:
    shares = [
        _stream(first_step=0, last_step=STEPS, shard=(process, processes), micro_batches=micro_batches)
        for process in range(processes)
    ]
    for name in ("index", "pair"):
        whole = np.stack([[batch[name] for batch in share] for share in shares])
        assert whole.shape[:4] == (processes, STEPS, micro_batches, BATCH // micro_batches // processes)
        whole = rearrange(whole, "process step micro row ... -> step (micro process row) ...")
        expected = _expected(0, STEPS)
        assert np.array_equal(whole, expected if name == "index" else np.stack([expected, expected**2], -1))


@pytest.mark.parametrize("first_step", [0, 1, 3, STEPS])
def test_going_on_from_a_step_needs_no_state(first_step: int) -> None:
    batches = _stream(first_step=first_step, last_step=STEPS)
    assert [batch["index"].ravel().tolist() for batch in batches] == _expected(first_step, STEPS).tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    settings = {"first_step": 1, "last_step": STEPS, "micro_batches": 2, "shard": (1, 2)}
    alone, helped = _stream(**settings), _stream(**settings, workers=workers)
    assert len(alone) == len(helped) == STEPS - 1
    for a, b in zip(alone, helped, strict=True):
        assert all(np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_comes_out(workers: int) -> None:
    batches = load(Squares(breaks_at=5), batch_size=2, first_step=0, last_step=9, workers=workers)
    assert [next(batches)["index"].tolist() for _ in range(2)] == [[[0, 1]], [[2, 3]]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_the_death_of_a_worker_is_an_error_and_no_wait() -> None:
    begin = time.monotonic()
    with pytest.raises(DataError, match="worker that reads data died with exit code 9"):
        list(load(Squares(dies_at=5), batch_size=2, first_step=0, last_step=9, workers=1))
    assert time.monotonic() - begin < 60


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"batch_size=10 does not divide into 2 micro-batch.* × 3 process.*multiple of 6"
    ):
        load(Squares(), batch_size=10, first_step=0, last_step=1, micro_batches=2, shard=(0, 3))
    with pytest.raises(DataError, match="shard"):
        load(Squares(), batch_size=10, first_step=0, last_step=1, shard=(2, 2))
    with pytest.raises(DataError, match="steps 3 to 1"):
        load(Squares(), batch_size=10, first_step=3, last_step=1)
