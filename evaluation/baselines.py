"""What a model must beat to have learned anything: predictions made without looking at the context."""

import dataclasses

import numpy as np

from objectives.objective import IGNORED


@dataclasses.dataclass(frozen=True)
class Unigram:
    """Guessing tokens by frequency alone.

    Attributes:
        entropy: of the asked tokens' own distribution, in nats: no guesser that ignores the context, not even one that
            knows how often each token is asked here, has a lower loss.
        cross_entropy: loss in nats of a guesser that knows the training text's frequencies (add-one smoothed).
        accuracy: of always guessing the most frequent asked token.
        count: tokens asked.
    """

    entropy: float
    cross_entropy: float
    accuracy: float
    count: int


def unigram(labels: np.ndarray, training_counts: np.ndarray) -> Unigram:
    """The baseline for `labels` (`IGNORED` left out), with `training_counts` (vocab,) of the tokens in training."""
    labels = labels[labels != IGNORED]
    if not len(labels):
        raise ValueError("no token is asked for: there is nothing to hold a model against")
    counts = np.bincount(labels, minlength=len(training_counts)).astype(np.float64)
    share = counts / counts.sum()
    seen = share[share > 0]
    smoothed = (training_counts + 1.0) / (training_counts + 1.0).sum()
    return Unigram(
        entropy=float(-(seen * np.log(seen)).sum()),
        cross_entropy=float(-(share * np.log(smoothed)).sum()),
        accuracy=float(share.max()),
        count=int(counts.sum()),
    )


@dataclasses.dataclass(frozen=True)
class Majority:
    """Always guessing the more frequent class.

    Attributes:
        accuracy: of that guess.
        standard_error: of an accuracy measured on as many examples, √(p (1 - p) / n).
        count: examples.
    """

    accuracy: float
    standard_error: float
    count: int


def majority(labels: np.ndarray) -> Majority:
    """The baseline for class `labels`."""
    share = np.bincount(labels).max() / len(labels)
    return Majority(float(share), float(np.sqrt(share * (1 - share) / len(labels))), len(labels))
