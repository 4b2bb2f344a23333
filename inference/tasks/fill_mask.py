"""`fill-mask`: tokens in place of masks."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.readers.text import TextReader
from inference.scores import Answer, check_count, softmax
from inference.task import Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class FillMask(Task):
    """For each text the likeliest tokens in place of its mask token; a list for each, where it has several.

    Attributes:
        top_k: answers for each mask.
    """

    name = "fill-mask"
    asks = (Output("logits", "tokens vocabulary", also=("prediction_logits",)),)
    causal = False
    example = 'lacuna predict fill-mask "The capital of France is [MASK]." --model {model}'

    top_k: int = 5

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)

    def prepare(self, reader: TextReader) -> None:
        if reader.vocabulary.mask is None:
            raise ModelError("the tokenizer has no mask token: fill-mask takes a model that was trained with one")

    def read(self, reader: TextReader, given: Sequence[str]) -> list[Any]:
        read, mask = reader.read(given), reader.vocabulary.mask
        for text, encoding in zip(given, read, strict=True):
            if mask not in encoding.ids:
                name = reader.vocabulary.tokens[mask]
                raise ModelError(f"no {name} in {text!r}: put one where a token is to be guessed")
        return read

    def answer(
        self, reader: TextReader, given: str, read: Any, outputs: dict[str, np.ndarray]
    ) -> list[Answer] | list[list[Answer]]:
        places = [place for place, token in enumerate(read.ids) if token == reader.vocabulary.mask]
        decode, answers = reader.tokenizer.decode, []
        for place in places:
            scores = softmax(outputs["logits"][place])
            guesses = []
            for token in np.argsort(-scores, kind="stable")[: self.top_k].tolist():
                filled = [*read.ids[:place], token, *read.ids[place + 1 :]]
                guesses.append(
                    {
                        "score": float(scores[token]),
                        "token": token,
                        "token_str": decode([token], skip_special_tokens=False),
                        "sequence": decode(filled, skip_special_tokens=len(places) == 1),
                    }
                )
            answers.append(guesses)
        return answers[0] if len(places) == 1 else answers
