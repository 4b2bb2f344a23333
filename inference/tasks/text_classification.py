"""`text-classification`: labels of texts."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from data.text.strides import Text
from inference.readers.text import TextReader
from inference.scores import Answer, check_count, check_labels, ranked
from inference.task import Field, Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class TextClassification(Task):
    """For each text, or pair of texts, its labels with their scores, the likeliest first.

    Scores are what `problem_type` of the config says: probabilities of which one label is right, of each label by itself, or
    the number of a regression.

    Attributes:
        top_k: answers for each text; all labels where `None`.
        function_to_apply: what makes scores of logits, other than the config says.
        truncation: cut off what the model has no room for, rather than refuse the text.
    """

    name = "text-classification"
    asks = (Output("logits", "labels"),)
    fields = (Field("text"), Field("text_pair", optional=True))
    what = "text, or a pair (text, text_pair)"
    example = "lacuna predict text-classification TEXT --model {model}"

    top_k: int | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None
    truncation: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        if self.function_to_apply not in (None, "sigmoid", "softmax", "none"):
            raise ModelError(f"function_to_apply={self.function_to_apply!r}: expected sigmoid, softmax or none")

    def prepare(self, reader: TextReader) -> None:
        check_labels(reader.model.config)

    def read(self, reader: TextReader, given: Sequence[Text]) -> list[Any]:
        return reader.read(given, self.truncation)

    def answer(self, reader: TextReader, given: Text, read: Any, outputs: dict[str, np.ndarray]) -> list[Answer]:
        return ranked(outputs["logits"], reader.model.config, self.top_k, self.function_to_apply)
