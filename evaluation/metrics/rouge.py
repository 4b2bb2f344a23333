"""ROUGE, the overlap of a summary with the right one, by `rouge-score`: Lin, "ROUGE: A Package for Automatic Evaluation of
Summaries", 2004, ACL workshop "Text Summarization Branches Out"."""

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from sentencex import segment

from evaluation.metric import State
from evaluation.text_metric import TextMetric

FIGURES = {"rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rouge_l", "rougeLsum": "rouge_lsum"}
"""{what `rouge-score` calls it: the figure}."""


@dataclasses.dataclass(frozen=True)
class Rouge(TextMetric):
    """F1 in percent, in the mean over summaries, of words (1), of pairs of words (2), of the longest common subsequence (L), and
    of that by sentence (Lsum: what papers on news call ROUGE-L).

    Attributes:
        stem: whether words are reduced to their stems first, as Porter (1980) does for English.
        language: whose rules end a sentence (an ISO 639-1 code), in texts that have not one on each line.
    """

    figures: ClassVar[tuple[str, ...]] = tuple(FIGURES.values())
    libraries: ClassVar[tuple[str, ...]] = ("rouge_score",)

    stem: bool = True
    language: str = "en"

    @property
    def signature(self) -> str:
        stem = "yes" if self.stem else "no"
        return f"rouge-score|stem:{stem}|sentences:{self.language}|version:{importlib.metadata.version('rouge-score')}"

    def rows(self, written: Sequence[str], right: Sequence[str]) -> State:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(list(FIGURES), use_stemmer=self.stem)
        scores = [scorer.score(self._lines(one), self._lines(other)) for one, other in zip(right, written, strict=True)]
        return {figure: np.array([score[name].fmeasure for score in scores]) for name, figure in FIGURES.items()}

    def compute(self, state: State) -> dict[str, float]:
        return {figure: 100 * float(state[figure].mean()) for figure in self.figures}

    def _lines(self, text: str) -> str:
        """A sentence on each line."""
        return text if "\n" in text.strip() else "\n".join(map(str.strip, segment(self.language, text)))
