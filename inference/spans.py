"""Spans of a context that answer a question, from the logits of its windows: for pipelines and for metrics alike.

Two ways to compare spans. `by_probability` is that of `transformers`' pipeline: a softmax over the context and [CLS] of each
window. `by_logits` is that of the released `run_squad.py`: sums of logits over all windows. Devlin et al., "BERT", 2018, arXiv
1810.04805, sections 4.2 and 4.3.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from data.text.strides import Window
from inference.scores import Answer, softmax

Logits = tuple[Float[np.ndarray, " tokens"], Float[np.ndarray, " tokens"]]
"""Of the start and of the end of a span, for the tokens of one window, [CLS] the first."""

NO_ANSWER = {"start": 0, "end": 0, "answer": ""}


def by_probability(
    windows: Sequence[Window],
    logits: Sequence[Logits],
    context: str,
    *,
    top_k: int = 1,
    longest: int = 15,
    impossible: bool = False,
    spans: int = 12,
) -> list[Answer]:
    """The likeliest answers, the best first: `score`, `start` and `end` in characters, `answer`.

    Spans of one text are one answer, their scores added, also over windows: a score may be above 1.

    Args:
        longest: most tokens of an answer.
        impossible: whether there may be no answer: an empty one, with the least probability of [CLS] of all windows.
        spans: taken of each window, more than `top_k` where several may turn out to be one answer.
    """
    answers: dict[str, Answer] = {}
    null = np.inf
    for window, (start, end) in zip(windows, logits, strict=True):
        asked = window.inside.copy()
        asked[0] = True
        starts, ends = (softmax(np.where(asked, scores, -np.inf)) for scores in (start, end))
        null = min(null, starts[0] * ends[0])
        scores = np.outer(np.where(window.inside, starts, 0), np.where(window.inside, ends, 0))
        scores *= span_mask(len(start), longest)
        for place in np.argsort(-scores, axis=None, kind="stable")[:spans]:
            first, last = divmod(int(place), len(start))
            if scores[first, last] > 0:
                answer = described(window, first, last, context, scores[first, last])
                same = answers.setdefault(answer["answer"].lower(), {**answer, "score": 0.0})
                same["score"] += answer["score"]
    nothing = [{"score": float(null), **NO_ANSWER}] if impossible else []
    return sorted([*answers.values(), *nothing], key=lambda answer: -answer["score"])[:top_k]


def by_logits(
    windows: Sequence[Window],
    logits: Sequence[Logits],
    context: str,
    *,
    top_k: int = 1,
    longest: int = 30,
    impossible: bool = False,
    threshold: float = 0.0,
    candidates: int = 20,
) -> list[Answer]:
    """The answers of the highest sums of a start and an end logit, the best first, with their probabilities among each other.

    Args:
        impossible: whether there may be no answer: an empty one, which is the best where its logits are above those of the best
            other one by more than `threshold`.
        candidates: starts and ends of each window that are looked at, and answers that the probabilities are over.
    """
    answers = summed(windows, logits, context, longest, candidates)
    if impossible or not answers:
        answers.append({"score": null_logit(logits), **NO_ANSWER})
        answers.sort(key=lambda answer: -answer["score"] + (threshold if not answer["answer"] else 0))
    shares = softmax(np.array([answer["score"] for answer in answers]))
    return [{**answer, "score": float(share)} for answer, share in zip(answers, shares, strict=True)][:top_k]


def null_logit(logits: Sequence[Logits]) -> float:
    """The least sum of [CLS]'s logits over the windows."""
    return min(float(start[0]) + float(end[0]) for start, end in logits)


def summed(
    windows: Sequence[Window],
    logits: Sequence[Logits],
    context: str,
    longest: int,
    candidates: int,
    most: int | None = None,
) -> list[Answer]:
    """The best answers, each once, with sums of logits as scores. An answer starts in the window that has most around it.

    Args:
        most: answers to return; `candidates` where `None`.
    """
    places, sums = [], []
    for number, (window, (start, end)) in enumerate(zip(windows, logits, strict=True)):
        starts, ends = (np.sort(np.argsort(-x, kind="stable")[:candidates]) for x in (start, end))
        starts, ends = starts[window.fullest[starts]], ends[window.inside[ends]]
        tokens = ends - starts[:, None] + 1
        row, column = np.nonzero((tokens >= 1) & (tokens <= longest))
        first, last = starts[row], ends[column]
        places.append(np.stack([np.full(len(first), number), first, last], axis=1))
        sums.append(start[first].astype(float) + end[last].astype(float))
    found, scores, answers = np.concatenate(places), np.concatenate(sums), {}
    for place in np.argsort(-scores, kind="stable"):
        number, first, last = found[place].tolist()
        answer = described(windows[number], first, last, context, scores[place])
        answers.setdefault(answer["answer"], answer)
        if len(answers) == (most or candidates):
            break
    return list(answers.values())


def span_mask(length: int, longest: int) -> Bool[np.ndarray, "length length"]:
    """Whether the span from a row's token to a column's has from 1 to `longest` tokens."""
    tokens = np.arange(length) - np.arange(length)[:, None] + 1
    return (tokens >= 1) & (tokens <= longest)


def described(window: Window, first: int, last: int, context: str, score: float) -> Answer:
    """The answer that goes from one token to another."""
    begin, end = int(window.spans[first, 0]), int(window.spans[last, 1])
    return {"score": float(score), "start": begin, "end": end, "answer": context[begin:end]}
