"""`multiple-choice`: which of several texts goes with another."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from inference.readers.text import TextReader
from inference.scores import Answer, check_count, softmax
from inference.task import Field, Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class MultipleChoice(Task):
    """For each (text, choices) the choices with their probabilities, the likeliest first: `label` is the number of a choice,
    the first being 0, and `choice` its text. The model reads the text and each choice as a pair.

    Attributes:
        top_k: answers for each text; all choices where `None`.
        truncation: cut off what the model has no room for, rather than refuse the text.
    """

    name = "multiple-choice"
    asks = (Output("logits", "choices"),)
    fields = (Field("text"), Field("choices", several=True))
    what = "pair (text, choices), with a list of at least two choices"
    windowed = True
    example = "lacuna predict multiple-choice TEXT CHOICE CHOICE --model {model}"

    top_k: int | None = None
    truncation: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_count("top_k", self.top_k)

    def inputs(self, words: Sequence[str]) -> list[tuple[str, list[str]]]:
        return [(words[0], list(words[1:]))] if words else []

    def read(self, reader: TextReader, given: Sequence[tuple[str, Sequence[str]]]) -> list[list[Encoding]]:
        for text, choices in given:
            if len(choices) < 2:
                raise ModelError(f"{text!r:.60} has {len(choices)} choice(s): give two or more")
        pairs = [(text, choice) for text, choices in given for choice in choices]
        read = iter(reader.read(pairs, self.truncation))
        return [[next(read) for _ in choices] for _, choices in given]

    def answer(
        self, reader: TextReader, given: tuple[str, Sequence[str]], read: Any, outputs: list[dict[str, np.ndarray]]
    ) -> list[Answer]:
        scores = softmax(np.concatenate([each["logits"] for each in outputs]))
        best = np.argsort(-scores, kind="stable")[: self.top_k].tolist()
        return [{"label": label, "score": float(scores[label]), "choice": given[1][label]} for label in best]
