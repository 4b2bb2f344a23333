"""`fill-mask`: tokens in place of masks."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from inference.readers.text import Places, TextReader
from inference.scores import Answer, check_count, softmax
from inference.task import Output, Task
from models.config import ModelError

log = logging.getLogger("lacuna")


@dataclasses.dataclass(frozen=True)
class FillMask(Task):
    """For each text the likeliest tokens in place of its mask token; a list for each, where it has several.

    Attributes:
        top_k: answers for each mask.
        targets: the tokens to choose from, rather than all; of a text of several tokens the first.
        truncation: cut off what the model has no room for, rather than refuse the text.
    """

    name = "fill-mask"
    asks = (Output("logits", "tokens vocabulary", also=("prediction_logits",)),)
    causal = False
    example = 'lacuna predict fill-mask "The capital of France is [MASK]." --model {model}'

    top_k: int = 5
    targets: tuple[str, ...] | None = None
    truncation: bool = False

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)
        if self.targets is not None:
            targets = [self.targets] if isinstance(self.targets, str) else self.targets
            object.__setattr__(self, "targets", tuple(targets))

    def prepare(self, reader: TextReader) -> None:
        if reader.vocabulary.mask is None:
            raise ModelError("the tokenizer has no mask token: fill-mask takes a model that was trained with one")

    def read(self, reader: TextReader, given: Sequence[str]) -> list[Places]:
        self.target_ids(reader)
        mask, found = reader.vocabulary.mask, []
        for text, encoding in zip(given, reader.read(given, self.truncation), strict=True):
            places = [place for place, token in enumerate(encoding.ids) if token == mask]
            if not places:
                name = reader.vocabulary.tokens[mask]
                raise ModelError(f"no {name} in {text!r}: put one where a token is to be guessed")
            found.append(Places(encoding.ids, encoding.attention_mask, encoding.type_ids, places))
        return found

    def target_ids(self, reader: TextReader) -> list[int] | None:
        """The ids of `targets`, each once; `None` where any token will do."""
        if self.targets is None:
            return None
        known, ids = reader.tokenizer.get_vocab(), []
        for target in self.targets:
            token = known.get(target)
            if token is None:
                first = reader.tokenizer.encode(target, add_special_tokens=False).ids[:1]
                if not first:
                    raise ModelError(f"targets: {target!r} has no tokens: leave it out")
                (token,) = first
                log.warning("targets: %r is no token, %r stands for it", target, reader.vocabulary.tokens[token])
            ids.append(token)
        if not ids:
            raise ModelError("targets is empty: name at least one token, or none to choose from all")
        return sorted(set(ids))

    def answer(
        self, reader: TextReader, given: str, read: Places, outputs: dict[str, np.ndarray]
    ) -> list[Answer] | list[list[Answer]]:
        decode, answers, targets = reader.tokenizer.decode, [], self.target_ids(reader)
        for place, logits in zip(read.places, outputs["logits"], strict=True):
            scores = softmax(logits)
            guesses = []
            ranked = (
                np.argsort(-scores, kind="stable") if targets is None else sorted(targets, key=lambda t: -scores[t])
            )
            for token in map(int, ranked[: self.top_k]):
                filled = [*read.ids[:place], token, *read.ids[place + 1 :]]
                filled = [each for each in filled if each != reader.vocabulary.pad]
                guesses.append(
                    {
                        "score": float(scores[token]),
                        "token": token,
                        "token_str": decode([token], skip_special_tokens=False),
                        "sequence": decode(filled, skip_special_tokens=len(read.places) == 1),
                    }
                )
            answers.append(guesses)
        return answers[0] if len(read.places) == 1 else answers
