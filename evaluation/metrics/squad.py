"""Exact match and F1 of answers, with the normalisation of SQuAD's official script: Rajpurkar et al., 2016, arXiv 1606.05250,
section 6.1; with questions that have no answer: Rajpurkar, Jia, Liang, 2018, arXiv 1806.03822."""

import collections
import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array

from evaluation.metric import Metric, State
from inference.spans import null_logit, summed

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and white space but single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(guess: str, answer: str) -> float:
    return float(normalized(guess) == normalized(answer))


def token_f1(guess: str, answer: str) -> float:
    """F1 of the words that both have in common; of two texts without a word 1, of one 0."""
    guessed, right = normalized(guess).split(), normalized(answer).split()
    if not guessed or not right:
        return float(guessed == right)
    common = sum((collections.Counter(guessed) & collections.Counter(right)).values())
    return 2 * common / (len(guessed) + len(right))


def scores(guess: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with the answer that gives most; without one, with no text. An answer that the normalisation leaves
    nothing of does not count."""
    rights = [answer for answer in answers if normalized(answer)] or [""]
    return max(exact_match(guess, answer) for answer in rights), max(token_f1(guess, answer) for answer in rights)


@dataclasses.dataclass(frozen=True)
class Squad(Metric):
    """Exact match and F1 of the best span of each question. A question of which a window is missing is left out.

    Attributes:
        longest: most tokens of an answer.
        impossible: whether there may be no answer. It is empty where the logits of no answer are above the best span's by more
            than `threshold`; the threshold with the best F1 is measured, too, as the official script does.
        candidates: starts and ends of each window that are looked at.
    """

    longest: int = 30
    impossible: bool = False
    threshold: float = 0.0
    candidates: int = 20

    asks: ClassVar[tuple[str, ...]] = ("start_logits", "end_logits")
    reads: ClassVar[tuple[str, ...]] = ("start_positions", "index")

    @property
    def figures(self) -> tuple[str, ...]:  # type: ignore[override]
        more = ("has_answer_exact_match", "has_answer_f1", "no_answer_accuracy", "best_f1", "best_threshold")
        return ("exact_match", "f1", *(more if self.impossible else ()))

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        return {"start": outputs["start_logits"], "end": outputs["end_logits"], "index": batch["index"]}

    def judged(self, state: State, examples: Any) -> State:
        """By question: `exact` and `f1` of its best span; `null`, by how much the logits of no answer are above it; `has`,
        whether it has an answer."""
        rows = []
        for question, windows, logits in examples.by_question(state["index"], state["start"], state["end"]):
            answers = [text for text, _ in question.answers]
            found = summed(windows, logits, question.text, self.longest, self.candidates, most=1)
            best = scores(found[0]["answer"] if found else "", answers)
            null = null_logit(logits) - found[0]["score"] if found else np.inf
            rows.append((*best, null, scores("", answers)[0] == 0))
        return dict(zip(("exact", "f1", "null", "has"), np.array(rows, float).reshape(-1, 4).T, strict=True))

    def compute(self, state: State) -> dict[str, float]:
        exact, f1, null, has = (state[name] for name in ("exact", "f1", "null", "has"))
        if not self.impossible:
            return {"exact_match": _mean(exact), "f1": _mean(f1)}
        empty = null > self.threshold
        exact, score = (np.where(empty, 1 - has, x * has) for x in (exact, f1))
        return {
            "exact_match": _mean(exact),
            "f1": _mean(score),
            "has_answer_exact_match": _mean(exact[has > 0]),
            "has_answer_f1": _mean(score[has > 0]),
            "no_answer_accuracy": _mean(empty[has == 0]),
            **self._best(f1 * has, null, has),
        }

    def _best(self, f1: np.ndarray, null: np.ndarray, has: np.ndarray) -> dict[str, float]:
        """The best F1 of all thresholds, and the least threshold that gives it."""
        order = np.argsort(null, kind="stable")
        totals = (1 - has).sum() + np.cumsum(np.append(0.0, (f1 - (1 - has))[order]))
        last = np.append(null[order][1:] != null[order][:-1], True) if len(null) else np.zeros(0, bool)
        totals[1:][~last] = -np.inf  # questions of one score are answered together
        best = int(totals.argmax())
        threshold = null[order][best - 1] if best else (null.min(initial=0.0) - 1)
        return {"best_f1": float(totals[best] / max(1, len(null))), "best_threshold": float(threshold)}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
