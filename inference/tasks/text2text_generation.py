"""`text2text-generation`: the texts that an encoder-decoder writes from those that it reads."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from inference.generation import GenerationConfig
from inference.readers.text import TextReader
from inference.scores import Answer
from inference.task import Output
from inference.writing import Writing, padded


@dataclasses.dataclass(frozen=True)
class Text2TextGeneration(Writing):
    """For each text what the model writes from it: as many answers as `num_return_sequences`, the best first.

    Attributes:
        source_language: of a translation, the language of the text, as the model calls it (`fr_XX`).
        target_language: the one to translate into (`de_DE`); as the folder has both where `None`.
        key: what the text is called in an answer.
    """

    name = "text2text-generation"
    takes = ("input_ids", "decoder_input_ids")
    asks = (Output("logits", "tokens vocabulary"),)
    example = 'lacuna generate "The capital of France" --model {model}'
    key: ClassVar[str] = "generated_text"

    source_language: str | None = None
    target_language: str | None = None

    def prepare(self, reader: TextReader) -> None:
        reader.languages.direction(self.source_language, self.target_language)

    def answers(self, reader: TextReader, given: Sequence[str], first: int = 0) -> list[list[Answer]]:
        direction = reader.languages.direction(self.source_language, self.target_language)
        generation = GenerationConfig.from_json({**reader.generation, **direction.generation}, **self.generation)
        prefix = reader.prefix if direction.prefix is None else direction.prefix
        sources = reader.sources(
            [prefix + text for text in given], direction.framing or reader.framing, direction.before
        )
        inputs = padded(sources, padding=reader.model.config.pad_token_id or 0)

        def spelled(row: int, tokens: list[int]) -> str:
            return reader.tokenizer.decode(tokens, skip_special_tokens=True)

        answers = self.written(reader, inputs, generation, first, spelled)
        return [[{self.key: text} for text in ways] for ways in answers]
