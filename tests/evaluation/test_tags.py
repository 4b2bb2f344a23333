"""Metrics of tagged words against seqeval on the whole sentences, windows or not."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data.forms import TextForm
from evaluation.bootstrap import interval
from evaluation.metrics.tags import Entities, WordAccuracy
from tests.data.text.annotated.test_tagged import prepare, sentences, source, write

seqeval = pytest.importorskip("seqeval.metrics")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Examples, of which some are windows of one sentence, and random answers, mostly right."""
    tmp_path: Path = tmp_path_factory.mktemp("tags")
    long = ([f"w{n}" for n in range(40)], ["O", "B-LOC", "I-LOC", "I-LOC"] * 10)
    rows = [long, *sentences(30)]
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", rows)))
    examples = prepared.examples(np.arange(len(rows)), TextForm(20), 0).in_order()
    batch = examples.batch(np.arange(len(examples)))
    random = np.random.default_rng(0)
    logits = random.normal(size=(*batch["labels"].shape, 5)) + 2 * np.eye(5)[np.maximum(batch["labels"], 0)]
    return examples, {"logits": jnp.asarray(logits)}, {name: jnp.asarray(x) for name, x in batch.items()}


def judged(metric, answers):
    examples, outputs, batch = answers
    state = {name: np.asarray(x) for name, x in metric.update(outputs, batch).items()}
    return metric.judged(state, examples)


def test_they_are_what_seqeval_says(answers):
    examples, outputs, batch = answers
    names, sentences = [*examples.names, "O"], {}
    guesses = np.asarray(outputs["logits"]).argmax(axis=-1)
    for (sentence, *_), labels, row in zip(examples.windows, np.asarray(batch["labels"]), guesses, strict=True):
        truth, found = sentences.setdefault(int(sentence), ([], []))
        truth += [names[x] for x in labels[labels >= 0]]
        found += [names[x] for x in row[labels >= 0]]
    truth, found = zip(*sentences.values(), strict=True)
    figures = Entities().compute(judged(Entities(), answers))
    assert figures["f1"] == pytest.approx(seqeval.f1_score(truth, found))
    assert figures["precision"] == pytest.approx(seqeval.precision_score(truth, found))
    assert figures["recall"] == pytest.approx(seqeval.recall_score(truth, found))
    accuracy = WordAccuracy().compute(judged(WordAccuracy(), answers))["word_accuracy"]
    assert accuracy == pytest.approx(seqeval.accuracy_score(truth, found))
    assert figures["f1"] < accuracy < 1


def test_sentences_are_resampled_whole(answers):
    state = judged(Entities(), answers)
    assert len(state["right"]) == 31
    low, high = interval(Entities().compute, state, resamples=200)["f1"]
    assert low < Entities().compute(state)["f1"] < high
