"""What the pipelines of all kinds of input share."""

from typing import Any

import numpy as np

Answer = dict[str, Any]

TOGETHER = 32
"""Inputs that the model sees at a time: a longer list is answered piece by piece."""


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)
