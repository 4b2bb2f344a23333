"""SQuAD's scores against the official rules written out, with and without questions that have no answer."""

import re
import string
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from evaluation.metrics.squad import Squad, normalized, scores, token_f1
from inference import spans
from tests.data.text.annotated.test_questions import FORM, prepare, rows, source, write


def official(text: str) -> str:
    """`normalize_answer` of the official script, step by step."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.mark.parametrize(
    "text", ["The  U.S. (north-east)", "An Apple a day!", "Theodore's", "  ", "the", "Zürich, 3,5 %", "a—the"]
)
def test_texts_are_normalized_as_officially(text):
    assert normalized(text) == official(text)


def test_the_best_of_several_answers_counts():
    assert scores("The Mill", ["mill", "river"]) == (1, 1)
    assert scores("the old mill", ["mill by a river", "an old mill."]) == (1, 1)
    exact, f1 = scores("mill at river", ["mill by a river"])
    assert exact == 0 and f1 == pytest.approx(2 / 3)
    assert scores("", []) == (1, 1) and scores("x", []) == (0, 0) and scores("", ["x"]) == (0, 0)
    assert token_f1("a b b", "b b b") == pytest.approx(4 / 5)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Examples and random logits, the answers' places often the highest."""
    tmp_path: Path = tmp_path_factory.mktemp("questions")
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", rows(40, impossible=True))))
    examples = prepared.examples(np.arange(40), FORM, 0).in_order()
    batch, random = examples.batch(np.arange(len(examples))), np.random.default_rng(0)
    logits = {}
    for name in ("start", "end"):
        scores = random.normal(size=batch["input_ids"].shape).astype(np.float32)
        scores[np.arange(len(scores)), batch[f"{name}_positions"]] += 2.5
        logits[f"{name}_logits"] = scores
    return prepared, examples, logits, batch


def state_of(metric, answered):
    _, examples, logits, batch = answered
    found = metric.update(*({name: jnp.asarray(x) for name, x in arrays.items()} for arrays in (logits, batch)))
    return metric.judged({name: np.asarray(x) for name, x in found.items()}, examples)


def guesses(answered, **settings) -> dict[int, str]:
    """What the pipeline's function answers, question by question."""
    prepared, examples, logits, _ = answered
    found = {}
    for question in range(40):
        items = np.flatnonzero(examples.windows[:, 0] == question)
        windows = examples.shown(question, examples.windows[items, 1:])
        pairs = [
            tuple(logits[f"{name}_logits"][n][: len(w.inside)] for name in ("start", "end"))
            for n, w in zip(items, windows, strict=True)
        ]
        answers = spans.by_logits(windows, pairs, prepared.rows[question].text, **settings)
        found[question] = answers[0]["answer"]
    return found


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("impossible", [True, False])
def test_what_is_scored_is_what_a_pipeline_answers(answered, impossible, threshold):
    metric = Squad(impossible=impossible, threshold=threshold)
    figures = metric.compute(state_of(metric, answered))
    settings = {"threshold": threshold} if impossible else {}
    answers = guesses(answered, impossible=impossible, **settings)
    expected = [scores(answers[n], [text for text, _ in row.answers]) for n, row in enumerate(answered[0].rows)]
    has = np.array([bool(row.answers) for row in answered[0].rows])
    exact, f1 = np.array(expected).T
    assert set(figures) == set(metric.figures)
    assert figures["exact_match"] == pytest.approx(exact.mean()) and figures["f1"] == pytest.approx(f1.mean())
    assert 0.1 < figures["f1"] < 1
    if impossible:
        assert figures["has_answer_f1"] == pytest.approx(f1[has].mean())
        assert figures["no_answer_accuracy"] == pytest.approx(f1[~has].mean())


def test_the_best_threshold_is_the_best_of_all(answered):
    metric = Squad(impossible=True)
    state = state_of(metric, answered)
    figures = metric.compute(state)
    tried = {
        t: Squad(impossible=True, threshold=t).compute(state)["f1"] for t in (*state["null"], state["null"].min() - 1)
    }
    assert figures["best_f1"] == pytest.approx(max(tried.values()))
    assert tried[figures["best_threshold"]] == pytest.approx(figures["best_f1"])


def test_a_question_of_which_a_window_is_missing_is_left_out(answered):
    _, examples, logits, batch = answered
    metric = Squad()
    found = metric.update(*({n: jnp.asarray(x[1:]) for n, x in arrays.items()} for arrays in (logits, batch)))
    assert len(metric.judged({n: np.asarray(x) for n, x in found.items()}, examples)["f1"]) == 39
