"""Draws: their distributions."""

import jax
import numpy as np
import pytest
from scipy import stats

from objectives.draws import poisson


@pytest.mark.parametrize("mean", [0.2, 1.0, 3.0, 40.0, 1_500.0])
def test_numbers_are_distributed_as_poisson_says(mean):
    drawn = np.asarray(poisson(jax.random.key(7), mean, 200_000))
    edges = np.unique(stats.poisson.ppf(np.linspace(0.02, 0.98, 25), mean))
    expected = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]])) * len(drawn)
    found = np.bincount(np.searchsorted(edges, drawn), minlength=len(expected))
    assert (
        stats.chisquare(
            found[expected > 5], expected[expected > 5] * found[expected > 5].sum() / expected[expected > 5].sum()
        ).pvalue
        > 1e-3
    )
    assert abs(drawn.mean() - mean) < 5 * np.sqrt(mean / len(drawn))
