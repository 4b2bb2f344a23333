"""Scores of translations against right ones, by `sacrebleu` (Post, "A Call for Clarity in Reporting BLEU Scores", 2018, arXiv
1804.08771)."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from evaluation.metric import State
from evaluation.text_metric import TextMetric


@dataclasses.dataclass(frozen=True)
class SacreBleu(TextMetric):
    """Base of scores of a corpus: the sums of statistics of its texts decide them."""

    libraries: ClassVar[tuple[str, ...]] = ("sacrebleu",)

    @property
    def scorer(self) -> Any:
        """The metric of `sacrebleu`."""
        raise NotImplementedError

    @property
    def signature(self) -> str:
        scorer = self.scorer
        scorer.corpus_score(["a"], [["a"]])  # it knows the number of references then
        return str(scorer.get_signature())

    def rows(self, written: Sequence[str], right: Sequence[str]) -> State:
        return {"counts": np.array(self.scorer._extract_corpus_statistics(list(written), [list(right)]), np.int64)}

    def compute(self, state: State) -> dict[str, float]:
        score = self.scorer._compute_score_from_stats(state["counts"].sum(axis=0).tolist()).score
        return {self.figures[0]: float(score)}


@dataclasses.dataclass(frozen=True)
class Bleu(SacreBleu):
    """BLEU in percent: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002, ACL.

    Attributes:
        tokenize: how words are told apart: `13a` as at WMT, `zh`, `ja-mecab`, `ko-mecab`, `intl`, `char`, or `none`.
        lowercase: whether letters' case is ignored.
    """

    figures: ClassVar[tuple[str, ...]] = ("bleu",)

    tokenize: str = "13a"
    lowercase: bool = False

    @property
    def scorer(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase)


@dataclasses.dataclass(frozen=True)
class ChrF(SacreBleu):
    """ChrF in percent: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015, WMT.

    Attributes:
        word_order: longest n-grams of words that count, too: 2 for chrF++ (Popović, 2017, WMT).
    """

    figures: ClassVar[tuple[str, ...]] = ("chrf",)

    word_order: int = 0

    @property
    def scorer(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF(word_order=self.word_order)
