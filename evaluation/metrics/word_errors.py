"""Errors of transcripts, by `jiwer`: substitutions, deletions and insertions beside the words, or characters, of the right one.

Texts are normalised as Whisper's authors do (Radford et al., 2022, arXiv 2212.04356, appendix C), by `whisper-normalizer`.
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np

from evaluation.metric import State
from evaluation.text_metric import TextMetric


@dataclasses.dataclass(frozen=True)
class WordErrors(TextMetric):
    """`wer` and `cer`: the errors of all texts together, in percent of their words and of their characters; more than 100 where
    more is wrong than there is. Of a text that should be empty each word that was written counts as an insertion.

    Attributes:
        normalizer: what is done to texts before: `english` (spelling, numbers, contractions), `basic` (any language: case, marks,
            what stands in brackets), or `none` (white space alone).
    """

    figures: ClassVar[tuple[str, ...]] = ("wer", "cer")
    libraries: ClassVar[tuple[str, ...]] = ("jiwer", "whisper_normalizer")

    normalizer: Literal["english", "basic", "none"] = "english"

    @property
    def signature(self) -> str:
        versions = (f"{name}:{importlib.metadata.version(name)}" for name in ("jiwer", "whisper-normalizer"))
        return "|".join((*versions, f"normalizer:{self.normalizer}"))

    def rows(self, written: Sequence[str], right: Sequence[str]) -> State:
        import jiwer

        normal = normalizer(self.normalizer)
        pairs = [
            (" ".join(normal(one).split()), " ".join(normal(other).split()))
            for one, other in zip(right, written, strict=True)
        ]
        found = {name: [] for name in ("word_errors", "words", "character_errors", "characters")}
        for one, other in pairs:
            for unit, count, process in (
                ("word", len(one.split()), jiwer.process_words),
                ("character", len(one), jiwer.process_characters),
            ):
                if one:
                    score = process(one, other)
                    errors = score.substitutions + score.deletions + score.insertions
                else:
                    errors = len(other.split() if unit == "word" else other)
                found[f"{unit}_errors"].append(errors)
                found[f"{unit}s"].append(count)
        return {name: np.array(counts, np.float64) for name, counts in found.items()}

    def compute(self, state: State) -> dict[str, float]:
        sums = {name: float(counts.sum()) for name, counts in state.items()}
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = (np.float64(sums[f"{unit}_errors"]) / sums[f"{unit}s"] for unit in ("word", "character"))
            return {figure: 100 * float(rate) for figure, rate in zip(self.figures, rates, strict=True)}


@functools.cache
def normalizer(name: str) -> Callable[[str], str]:
    """A text as texts are compared."""
    if name == "none":
        return str
    from whisper_normalizer import basic, english

    return english.EnglishTextNormalizer() if name == "english" else basic.BasicTextNormalizer()
