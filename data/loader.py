"""The loader: for each step of a run, this process' part of its batch, read through Grain."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np
from absl import flags
from einops import rearrange

from data.contract import Batch, Examples
from data.errors import DataError


@dataclasses.dataclass(frozen=True)
class _Step:
    """The part of process k of n of the batch of a step, `[micro_batches, rows, ...]`."""

    examples: Examples
    batch_size: int
    shard: tuple[int, int]
    micro_batches: int

    def __call__(self, step: int) -> Batch:
        process, processes = self.shard
        indices = step * self.batch_size + np.arange(self.batch_size)
        parts = rearrange(
            indices, "(micro process row) -> process (micro row)", micro=self.micro_batches, process=processes
        )
        batch = self.examples.batch(parts[process], among=indices)
        return {
            name: rearrange(array, "(micro row) ... -> micro row ...", micro=self.micro_batches)
            for name, array in batch.items()
        }


def load(
    examples: Examples,
    *,
    batch_size: int,
    first_step: int,
    last_step: int,
    shard: tuple[int, int] = (0, 1),
    micro_batches: int = 1,
    workers: int = 0,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Batches of the steps `first_step <= s < last_step`, arrays of shape `[micro_batches, rows, ...]`.

    The global batch of step s holds the examples `s * batch_size + r`, r from 0 to `batch_size - 1`, cut
    into micro-batches; process k of n has the k-th n-th of each. So what is trained on depends on neither the number
    of processes, nor workers, nor micro-batches, and going on from a step takes no iterator state. A batch of ragged examples
    has the length of one bucket, which every process reads off the sizes.

    Args:
        batch_size: examples of a step, over all processes and micro-batches.
        shard: this process (k, n).
        micro_batches: parts that a batch is cut into.
        workers: processes that read ahead (0: a thread of this one).
        prefetch: batches to read ahead (of each worker).

    Raises:
        DataError: the batch does not divide, or the steps or the process are none; later, a worker is gone.
    """
    process, processes = shard
    if not 0 <= process < processes:
        raise DataError(f"shard={shard}: the first number must be a process from 0 to {processes - 1}")
    if micro_batches < 1 or batch_size < 1 or batch_size % (micro_batches * processes):
        raise DataError(
            f"batch_size={batch_size} does not divide into {micro_batches} micro-batch(es) × {processes} process(es):"
            f" make it a multiple of {max(micro_batches, 1) * processes}"
        )
    if not 0 <= first_step <= last_step:
        raise DataError(f"steps {first_step} to {last_step}: they must count up from 0 or more")
    if first_step == last_step:
        return iter(())
    import grain

    steps = grain.MapDataset.range(first_step, last_step)
    batches = steps.map(_Step(examples, batch_size, shard, micro_batches))
    if not workers:
        return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=max(prefetch, 1))))
    if not flags.FLAGS.is_parsed():  # Grain asks absl's flags when it starts workers; a program without absl has none
        flags.FLAGS.mark_as_parsed()
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return _watched(
        batches.to_iter_dataset(alone).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(prefetch, 1))
        )
    )


def _watched(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same; a worker that died is a sentence."""
    try:
        yield from batches
    except RuntimeError as error:
        match = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
        if match is None:
            raise
        raise DataError(
            f"a worker that reads data died with exit code {match[1]} (-9: killed, most often because memory ran out); the"
            " same command goes on from the newest checkpoint, with --data.workers 0 without workers"
        ) from error
