"""What a metric is: a state computed on the devices for a batch, merged over batches and devices, read on the host."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array

from objectives.losses import IGNORED

State = Mapping[str, Any]
"""Arrays by name, nested or not."""


class MetricError(ValueError):
    """A metric that does not fit a model or its data, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """Figures of a set of examples.

    `update` gives one row an example, `[examples, ...]`. The rows of all batches and devices are gathered, in the order of the
    examples and each once; `judged` makes of all of them what `compute` sees. So a figure is the same however the examples
    are split. A subclass sets `asks` and `figures` and writes `update` and `compute`; its settings are fields.

    Attributes:
        asks: names of the model's outputs that `update` uses.
        reads: names of the batch's arrays that it uses, as the model sees them.
        figures: names of what `compute` returns.
        libraries: modules that `compute` imports, of the extra `metrics`.
        summed: `update` gives sums over its examples, of any shape. They are added up on the devices, and no rows are gathered.
        unprojected: whether `update` takes scores of a vocabulary that are not computed yet (`VocabularyScores`).
    """

    asks: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    figures: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()
    summed: ClassVar[bool] = False
    unprojected: ClassVar[bool] = False

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        """The state of one batch: pure JAX, compiled with the model."""
        raise NotImplementedError

    def condensed(self, state: State, examples: Any) -> State:
        """What is kept of the rows of a batch until all batches are there: the same, or, of large ones, what matters of them. On
        the host; any library may be used.

        Args:
            examples: those that are evaluated, of which `index`, where `update` gives it, tells the ones in the batch.
        """
        return state

    def judged(self, state: State, examples: Any) -> State:
        """The rows that are resampled for an interval, from those of all examples: the same, or a row for each text that is
        scored, which may be several examples. On the host, once; any library may be used.

        Args:
            examples: those that were evaluated (`data.contract.Examples`), which know their labels and texts.
        """
        return state

    def compute(self, state: State) -> dict[str, float]:
        """The figures, from `judged` rows, or from sums, as numpy arrays."""
        raise NotImplementedError


@dataclasses.dataclass
class Collected:
    """The states of several metrics, batch by batch.

    Attributes:
        metrics: their order is that of the states.
    """

    metrics: Sequence[Metric]
    sums: dict[int, State] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, sums: Mapping[int, State], rows: dict[str, Any], copies: int = 1) -> None:
        """Add a batch.

        Args:
            sums: of each summed metric, by its number.
            rows: `metrics`, of each other metric, by its number, and the `index` of each example.
            copies: how often each example of the batch is in it: sums are divided by it, rows are taken once.
        """
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64) / copies, dict(sums))
        self.sums = jax.tree.map(np.add, self.sums, sums) if self.sums else sums
        if rows["metrics"]:
            self.rows.append(rows)

    def states(self) -> list[State]:
        """The state of each metric over all batches."""
        rows = joined(self.rows)["metrics"] if self.rows else {}
        return [self.sums[n] if metric.summed else rows[n] for n, metric in enumerate(self.metrics)]


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of several batches as one, ordered by their `index`, each example once."""
    _, first = np.unique(np.concatenate([part["index"] for part in parts]), return_index=True)
    return jax.tree.map(lambda *arrays: concatenated(arrays)[first], *parts)


def concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of several arrays; where their lengths differ, padded at the end: with `IGNORED`, floats with NaN."""
    shape = np.max([array.shape[1:] for array in arrays], axis=0, initial=0).astype(int)
    fill = np.nan if np.issubdtype(arrays[0].dtype, np.floating) else IGNORED
    pads = (
        [(0, 0), *((0, most - size) for most, size in zip(shape, array.shape[1:], strict=True))] for array in arrays
    )
    return np.concatenate(
        [
            array if array.shape[1:] == tuple(shape) else np.pad(array, pad, constant_values=fill)
            for array, pad in zip(arrays, pads, strict=True)
        ]
    )
