"""Scores of written text: those of the libraries, from rows that may be split and resampled."""

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from evaluation.bootstrap import interval
from evaluation.evaluation import Evaluation
from evaluation.metric import MetricError
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.rouge import Rouge
from evaluation.metrics.translation import Bleu, ChrF
from inference.tasks.summarization import Summarization
from inference.tasks.translation import Translation

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "past",
    "an",
    "old",
    "mill",
    "by",
    "the",
    "river",
]


def texts(count: int) -> tuple[list[str], list[str]]:
    """Right texts, and some with words left out or put elsewhere; one is empty."""
    random = np.random.default_rng(0)
    right = [" ".join(random.choice(WORDS, random.integers(4, 14))) + "." for _ in range(count)]
    written = [" ".join(word for word in text.split() if random.random() < 0.8) for text in right]
    return ["", *written[1:]], right


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Bleu(), lambda w, r: sacrebleu.corpus_bleu(w, [r]).score),
        (
            Bleu(lowercase=True, tokenize="char"),
            lambda w, r: sacrebleu.corpus_bleu(w, [r], lowercase=True, tokenize="char").score,
        ),
        (ChrF(), lambda w, r: sacrebleu.corpus_chrf(w, [r]).score),
        (ChrF(word_order=2), lambda w, r: sacrebleu.corpus_chrf(w, [r], word_order=2).score),
    ],
    ids=["BLEU", "BLEU of characters", "chrF", "chrF++"],
)
def test_scores_of_a_corpus_are_sacrebleus_however_it_is_split(metric, expected):
    written, right = texts(40)
    parts = [metric.rows(written[place], right[place]) for place in (slice(0, 13), slice(13, 40))]
    rows = {"counts": np.concatenate([part["counts"] for part in parts])}
    (figure,) = metric.figures
    assert metric.compute(rows)[figure] == pytest.approx(expected(written, right), abs=1e-9)
    low, high = interval(metric.compute, rows, resamples=200)[figure]
    assert low < metric.compute(rows)[figure] < high
    assert metric.signature.startswith("nrefs:1|case:")


def test_rouge_is_the_mean_of_the_library_over_texts_with_a_sentence_on_each_line():
    written, right = texts(20)
    written = [f"{one} Then {other}." for one, other in zip(written, reversed(written), strict=True)]
    found = Rouge().compute(Rouge().rows(written, right))
    names = {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}
    scorer = RougeScorer([*names.values(), "rougeLsum"], use_stemmer=True)
    scores = [scorer.score(*pair) for pair in zip(right, written, strict=True)]
    for figure, name in names.items():
        assert found[figure] == pytest.approx(100 * np.mean([score[name].fmeasure for score in scores]))
    lines = scorer.score("A cat sat.\nThe dog ran.", "The dog ran.\nA cat sat.")["rougeLsum"].fmeasure
    found = Rouge().compute(Rouge().rows(["The dog ran. A cat sat."], ["A cat sat. The dog ran."]))
    assert found["rouge_lsum"] == pytest.approx(100 * lines) == 100 and found["rouge_l"] < 60
    assert "stem:yes" in Rouge().signature


def test_metrics_and_evaluations_that_do_not_go_together_are_a_sentence():
    for arguments, said in (
        (dict(name="written", metrics=(Bleu(),)), "is of written text: give the evaluation a task"),
        (dict(name="written", metrics=(Accuracy(),), task=Translation()), "is not of written text: leave the task out"),
        (dict(metrics=(Rouge(),), task=Summarization()), "the evaluation held_out is of the losses"),
    ):
        with pytest.raises(MetricError, match=said):
            Evaluation(**arguments)
