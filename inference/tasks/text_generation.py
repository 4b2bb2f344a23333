"""`text-generation`: how texts go on."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from inference.generation import GenerationConfig
from inference.readers.text import TextReader
from inference.scores import Answer
from inference.task import Output
from inference.writing import Writing, padded
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class TextGeneration(Writing):
    """For each text, how it goes on: as many answers as `num_return_sequences`, the best first.

    Attributes:
        return_full_text: give the text with what follows it, or what follows alone.
    """

    name = "text-generation"
    asks = (Output("logits", "tokens vocabulary"),)
    causal = True
    example = 'lacuna generate "The capital of France" --model {model}'

    return_full_text: bool = True

    def changed(self, **settings: Any) -> Writing:
        for name in ("source_language", "target_language"):
            if settings.pop(name, None) is not None:
                raise ModelError(
                    f"{name} is for models that read one text and write another, and this one goes on with a text"
                )
        return super().changed(**settings)

    def answers(self, reader: TextReader, given: Sequence[str], first: int = 0) -> list[list[Answer]]:
        generation = GenerationConfig.from_json(reader.generation, **self.generation)
        prompts = reader.prompts(given)
        decode = functools.partial(reader.tokenizer.decode, skip_special_tokens=True)

        def spelled(row: int, tokens: list[int]) -> str:
            added = decode([*prompts[row], *tokens])[len(decode(prompts[row])) :]
            return given[row] + added if self.return_full_text else added

        answers = self.written(reader, padded(prompts, left=True), generation, first, spelled)
        return [[{"generated_text": text} for text in ways] for ways in answers]
