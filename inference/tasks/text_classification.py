"""`text-classification`: labels of texts."""

import dataclasses
from typing import Any

import numpy as np

from inference.scores import Answer, check_count, ranked
from inference.task import Output, Task


@dataclasses.dataclass(frozen=True)
class TextClassification(Task):
    """For each text its labels with their scores, the likeliest first.

    Scores are what `problem_type` of the config says: probabilities of which one label is right, of each label by itself, or
    the number of a regression.

    Attributes:
        top_k: answers for each text; all labels where `None`.
    """

    name = "text-classification"
    asks = (Output("logits", "labels"),)
    example = "lacuna predict text-classification TEXT --model {model}"

    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_count("top_k", self.top_k)

    def answer(self, reader: Any, given: str, read: Any, outputs: dict[str, np.ndarray]) -> list[Answer]:
        return ranked(outputs["logits"], reader.model.config, self.top_k)
