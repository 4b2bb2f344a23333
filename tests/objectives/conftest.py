"""A vocabulary for the objectives that mark what they cut out, windows of text written in it, and tests of chance."""

import numpy as np
import pytest

from tests.examples import text_vocabulary, text_windows


@pytest.fixture(scope="session")
def written():
    return text_vocabulary()


@pytest.fixture(scope="session")
def windows():
    return text_windows


def alike(first: np.ndarray, second: np.ndarray, sigmas: float = 5.0) -> bool:
    """Whether two histograms over the same bins may have come from one distribution: a χ² test of bins that are filled."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    filled = first + second >= 20
    first, second = np.append(first[filled], first[~filled].sum()), np.append(second[filled], second[~filled].sum())
    some = first + second > 0
    first, second = first[some], second[some]
    ratio = np.sqrt(second.sum() / first.sum())
    statistic = ((first * ratio - second / ratio) ** 2 / (first + second)).sum()
    freedom = max(len(first) - 1, 1)
    return statistic <= freedom + sigmas * np.sqrt(2 * freedom) + sigmas


def uniform(counts: np.ndarray, sigmas: float = 5.0) -> bool:
    """Whether draws fall on all bins alike: a χ² test."""
    counts = np.asarray(counts, float)
    expected = counts.sum() / len(counts)
    statistic = ((counts - expected) ** 2 / expected).sum()
    return statistic <= len(counts) - 1 + sigmas * np.sqrt(2 * (len(counts) - 1))
