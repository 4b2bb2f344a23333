"""`perplexity`: how well a language model predicts texts."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from inference.likelihood import token_log_probabilities, windows
from inference.readers.text import TextReader
from inference.scores import Answer, check_count
from inference.task import Output, Task
from models.config import ModelError

WITHOUT_LIMIT = 2_048
"""Tokens of a window where a model has no limit of its own."""


@dataclasses.dataclass(frozen=True)
class Perplexity(Task):
    """For each text, of any length, exp of the mean loss of a token, and the loss in bits per byte of the text in UTF-8.

    Perplexities compare models with one tokenizer; bits per byte any two. A text begins with the token that begins or ends
    texts. One that is longer than the model is read in windows, each token once.

    Attributes:
        context: tokens that a window repeats at least, of the one before it: more make the loss smaller and take longer.
    """

    name = "perplexity"
    asks = (Output("logits", "tokens vocabulary"),)
    causal = True

    context: int = 1

    def __post_init__(self) -> None:
        check_count("context", self.context)

    def prepare(self, reader: TextReader) -> None:
        prefix_of(reader)

    def read(self, reader: TextReader, given: Sequence[str]) -> list[list[int]]:
        read = [encoding.ids for encoding in reader.tokenizer.encode_batch(list(given), add_special_tokens=False)]
        for text, ids in zip(given, read, strict=True):
            if not ids:
                raise ModelError(f"the text {text!r} has no tokens: there is nothing to predict")
            reader.check_embeddings(ids)
        return read

    def answers(self, reader: TextReader, given: Sequence[str], first: int = 0) -> list[Answer]:
        longest = reader.model.config.longest_input or WITHOUT_LIMIT
        if self.context > longest:
            raise ModelError(f"context={self.context}: the model has room for {longest} tokens")
        cut = [list(windows(ids, prefix_of(reader), longest, self.context)) for ids in self.read(reader, given)]
        pairs = [pair for one in cut for pair in one]
        scored, answers = iter(token_log_probabilities(reader.model, reader.variables, pairs)), []
        for text, one in zip(given, cut, strict=True):
            losses = -np.concatenate([next(scored)[0] for _ in one]).astype(np.float64)
            answers.append(
                {
                    "perplexity": math.exp(losses.mean()),
                    "bits_per_byte": float(losses.sum() / math.log(2) / len(text.encode())),
                    "loss": float(losses.mean()),
                    "tokens": len(losses),
                    "bytes": len(text.encode()),
                }
            )
        return answers


def prefix_of(reader: TextReader) -> int:
    """The token that stands before a text: what begins one, or what ends the one before."""
    vocabulary, begin = reader.vocabulary, reader.framing.begin
    prefix = begin[0] if begin else vocabulary.eos if vocabulary.bos is None else vocabulary.bos
    if prefix is None:
        raise ModelError("the tokenizer has no token that begins or ends a text, which must stand before the first one")
    return prefix
