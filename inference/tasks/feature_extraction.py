"""`feature-extraction`: texts as vectors."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from inference.readers.text import TextReader
from inference.scores import Answer
from inference.task import Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class FeatureExtraction(Task):
    """For each text the mean of its tokens' last hidden states, scaled to length 1; or these themselves.

    Attributes:
        pooling: `mean`: {"embedding": numbers}; `none`: the hidden states of the tokens, in a list of one, as `transformers`
            gives them.
        truncation: cut off what the model has no room for, rather than refuse the text.
    """

    name = "feature-extraction"
    asks = (Output("last_hidden_state", "tokens hidden"),)

    pooling: Literal["mean", "none"] = "mean"
    truncation: bool = False

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "none"):
            raise ModelError(f"pooling={self.pooling!r}: expected mean or none")

    def read(self, reader: TextReader, given: Sequence[str]) -> list[Any]:
        return reader.read(given, self.truncation)

    def answer(
        self, reader: TextReader, given: str, read: Any, outputs: dict[str, np.ndarray]
    ) -> Answer | list[list[list[float]]]:
        states = outputs["last_hidden_state"]
        if self.pooling == "none":
            return [states.tolist()]
        mean = states.astype(np.float64).mean(axis=0)
        return {"embedding": (mean / np.linalg.norm(mean)).tolist()}
