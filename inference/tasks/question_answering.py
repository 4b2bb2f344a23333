"""`question-answering`: spans of contexts that answer questions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from inference.readers.text import TextReader
from inference.scores import Answer, check_count, softmax
from inference.task import Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class QuestionAnswering(Task):
    """For each (question, context) the likeliest span of the context.

    Attributes:
        longest: most tokens of a span.
    """

    name = "question-answering"
    asks = (Output("start_logits", "tokens"), Output("end_logits", "tokens"))
    one = (tuple,)
    what = "pair (question, context)"

    longest: int = 30

    def __post_init__(self) -> None:
        check_count("longest", self.longest)

    def inputs(self, words: Sequence[str]) -> list[tuple[str, str]]:
        if len(words) % 2:
            raise ModelError(
                f"question-answering takes questions, each with its context behind it, and {len(words)} text(s) came"
            )
        return list(zip(words[::2], words[1::2], strict=True))

    def read(self, reader: TextReader, given: Sequence[tuple[str, str]]) -> list[Any]:
        for pair in given:
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise ModelError(f"question-answering takes a {self.what}, and {pair!r:.60} came")
        read = reader.read(given)
        for (question, _), encoding in zip(given, read, strict=True):
            if 1 not in encoding.sequence_ids:
                raise ModelError(f"the context of {question!r:.60} is empty: there is no span to choose")
        return read

    def answer(self, reader: TextReader, given: tuple[str, str], read: Any, outputs: dict[str, np.ndarray]) -> Answer:
        inside = np.array([part == 1 for part in read.sequence_ids])
        start, end, score = span(outputs["start_logits"], outputs["end_logits"], inside, self.longest)
        first, last = read.offsets[start][0], read.offsets[end][1]
        return {"score": score, "start": first, "end": last, "answer": given[1][first:last]}


def span(
    start_logits: Float[np.ndarray, " tokens"],
    end_logits: Float[np.ndarray, " tokens"],
    inside: Bool[np.ndarray, " tokens"],
    longest: int,
) -> tuple[int, int, float]:
    """First and last token of the likeliest span of at most `longest` tokens inside the context, and its probability."""
    starts, ends = (softmax(np.where(inside, logits, -np.inf)) for logits in (start_logits, end_logits))
    places = np.arange(len(inside))
    scores = np.triu(np.outer(starts, ends)) * (np.subtract.outer(places, places) > -longest)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    return int(start), int(end), float(scores[start, end])
