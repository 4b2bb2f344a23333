"""The evaluation step: the states of all metrics on a batch, for every way to spread it."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from evaluation.metric import Metric
from objectives.objective import Example
from training.step import forward


def evaluation_step(
    variables: dict[str, Any],
    batch: Example,
    frozen: PyTree = None,
    *,
    model: nn.Module,
    see: Callable[[Example], Example],
    metrics: Sequence[Metric],
    axis: str | None = None,
) -> dict[str, Any]:
    """The metrics' states on a batch `[1, batch, ...]`, without dropout, by the metrics' numbers.

    Args:
        see: makes of a batch what the model is to see (`training.step.corrupted`).

    Returns:
        `sums`: of the summed metrics, over all devices; `rows`: `metrics`, the states of the others on this device's
        examples, and the examples' `index` where there are any.
    """
    examples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    seen = see(examples)
    unprojected = all(metric.unprojected for metric in metrics) and "unprojected" in model.settings
    outputs = forward(model, variables, seen, frozen=frozen, **({"unprojected": True} if unprojected else {}))
    sums = {n: metric.update(outputs, seen) for n, metric in enumerate(metrics) if metric.summed}
    rows = {n: metric.update(outputs, seen) for n, metric in enumerate(metrics) if not metric.summed}
    index = {"index": examples["index"]} if rows else {}
    return {"sums": jax.lax.psum(sums, axis) if axis else sums, "rows": {"metrics": rows, **index}}
