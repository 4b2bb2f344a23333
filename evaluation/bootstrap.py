"""Confidence intervals by resampling examples: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, Annals of
Statistics 7(1); the interval between percentiles, as in Koehn, "Statistical Significance Tests for Machine Translation
Evaluation", 2004."""

from collections.abc import Callable

import jax
import numpy as np

from evaluation.metric import State


def interval(
    compute: Callable[[State], dict[str, float]],
    rows: State,
    *,
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """{figure: (low, high)}: percentiles of each figure over resamples of the examples, drawn with replacement.

    Args:
        compute: rows of all examples → figures.
        rows: arrays `[examples, ...]`.
        level: probability between low and high.
    """
    generator, count = np.random.default_rng(seed), len(jax.tree.leaves(rows)[0])
    drawn = (generator.integers(count, size=count) for _ in range(resamples))
    figures = [compute(jax.tree.map(lambda x: x[places], rows)) for places in drawn]  # noqa: B023 - used at once
    outside = [(1 - level) / 2, (1 + level) / 2]
    return {name: tuple(np.quantile([f[name] for f in figures], outside).tolist()) for name in figures[0]}
