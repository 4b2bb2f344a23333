"""`token-classification`: labels of tokens, of words, and the entities that these are."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from tokenizers import Encoding

from data.text.strides import cut
from inference.entities import STRATEGIES, entities, tokens_of, without_overlap
from inference.readers.text import TextReader
from inference.scores import Answer, check_count, check_labels, softmax
from inference.task import Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class TokenClassification(Task):
    """For each text its tokens with their likeliest label and place in the text; or with an `aggregation_strategy` its entities.

    Attributes:
        aggregation_strategy: `none`: tokens; `simple`: neighbouring tokens of one label are an entity; `first`, `average`, `max`:
            so are words, which have the label of their first token, the likeliest on average, or that of the surest token.
        ignore_labels: labels that are left out.
        stride: read a long text in windows that have so many tokens in common; needs an aggregation strategy.
        truncation: cut off what the model has no room for, rather than refuse the text.
    """

    name = "token-classification"
    asks = (Output("logits", "tokens labels"),)
    windowed = True
    example = "lacuna predict token-classification TEXT --model {model}"

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "none"
    ignore_labels: tuple[str, ...] = ("O",)
    stride: int | None = None
    truncation: bool = False

    def __post_init__(self) -> None:
        if self.aggregation_strategy not in STRATEGIES:
            raise ModelError(f"aggregation_strategy={self.aggregation_strategy!r}: expected {', '.join(STRATEGIES)}")
        if self.stride is not None:
            check_count("stride", self.stride, least=0)
            if self.aggregation_strategy == "none":
                raise ModelError(
                    f"stride={self.stride} needs an aggregation_strategy, such as simple, to join windows by"
                )

    def prepare(self, reader: TextReader) -> None:
        check_labels(reader.model.config)

    def read(self, reader: TextReader, given: Sequence[str]) -> list[list[Encoding]]:
        if self.stride is None or reader.room is None:
            hint = None if self.stride is not None else self.truncation
            return [[encoding] for encoding in reader.read(given, hint)]
        if self.stride >= reader.room - reader.framing.count:
            raise ModelError(f"stride={self.stride} of windows of {reader.room} tokens: make it less")
        read = cut(reader.tokenizer, given, reader.room, self.stride)
        for text, windows in zip(given, read, strict=True):
            reader.check_room([text] * len(windows), [encoding.ids for encoding in windows])
        return read

    def answer(
        self, reader: TextReader, given: str, read: list[Encoding], outputs: list[dict[str, np.ndarray]]
    ) -> list[Answer]:
        found: list[Answer] = []
        for encoding, each in zip(read, outputs, strict=True):
            tokens = tokens_of(given, encoding, softmax(each["logits"]), reader.tokenizer, reader.vocabulary.unk)
            labels = reader.model.config.labels
            answers = entities(tokens, labels, self.aggregation_strategy, reader.tokenizer)
            found += [a for a in answers if a.get("entity", a.get("entity_group")) not in self.ignore_labels]
        return without_overlap(found) if len(read) > 1 else found
