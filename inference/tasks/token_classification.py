"""`token-classification`: labels of tokens."""

import dataclasses
from typing import Any

import numpy as np

from inference.readers.text import TextReader
from inference.scores import Answer, guessed, softmax
from inference.task import Output, Task


@dataclasses.dataclass(frozen=True)
class TokenClassification(Task):
    """For each text its tokens with their likeliest label and place in the text."""

    name = "token-classification"
    asks = (Output("logits", "tokens labels"),)

    def answer(self, reader: TextReader, given: str, read: Any, outputs: dict[str, np.ndarray]) -> list[Answer]:
        names, unknown = reader.model.config.labels, reader.vocabulary.unk
        scores, guesses = softmax(outputs["logits"]), guessed(outputs["logits"])
        answers = []
        for place, (begin, end) in enumerate(read.offsets):
            if not read.special_tokens_mask[place]:
                word = given[begin:end] if read.ids[place] == unknown else read.tokens[place]
                score = float(scores[place].max())
                answers.append(
                    {"entity": names[guesses[place]], "score": score, "word": word, "start": begin, "end": end}
                )
        return answers
