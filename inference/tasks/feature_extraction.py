"""`feature-extraction`: texts as vectors."""

import dataclasses
from typing import Any

import numpy as np

from inference.scores import Answer
from inference.task import Output, Task


@dataclasses.dataclass(frozen=True)
class FeatureExtraction(Task):
    """For each text the mean of its tokens' last hidden states, scaled to length 1."""

    name = "feature-extraction"
    asks = (Output("last_hidden_state", "tokens hidden"),)

    def answer(self, reader: Any, given: str, read: Any, outputs: dict[str, np.ndarray]) -> Answer:
        mean = outputs["last_hidden_state"].astype(np.float64).mean(axis=0)
        return {"embedding": (mean / np.linalg.norm(mean)).tolist()}
