"""Lists of texts: bucketed by length, compiled once a bucket, answered in order, each as if it were alone."""

import random

import jax
import numpy as np
import pytest

from inference import pipeline
from inference.readers.reader import apply
from inference.readers.text import TextReader
from tests.inference.small_folders import TEXTS
from tests.marks import first_fast

WORDS = [*TEXTS[0].split(), *TEXTS[1].split()]
TASKS = {
    "text-classification": ("BertForSequenceClassification", {"truncation": True}),
    "fill-mask": ("BertForMaskedLM", {}),
    "feature-extraction": ("BertModel", {}),
    "token-classification": ("BertForTokenClassification", {"aggregation_strategy": "simple", "stride": 5}),
    "question-answering": ("BertForQuestionAnswering", {"top_k": 3, "doc_stride": 6}),
    "multiple-choice": ("BertForMultipleChoice", {}),
}


def asked(task: str) -> list:
    """Inputs of one to some hundred tokens, where the task can read such long ones."""
    rng = random.Random(0)
    longest = 33 if task in ("fill-mask", "feature-extraction", "multiple-choice") else 150
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(40)]
    if task == "fill-mask":
        return [f"[MASK] {text}" for text in texts]
    if task == "question-answering":
        return [("who sat", text) for text in texts]
    if task == "multiple-choice":
        return [("the", [text, "cats", "the dog"][: 2 + n % 2]) for n, text in enumerate(texts)]
    return texts


def far(one, other) -> float:
    """The greatest difference of two answers' numbers; infinite where they differ otherwise."""
    if isinstance(one, list | tuple):
        return max(map(far, one, other), default=0.0) if len(one) == len(other) else np.inf
    if isinstance(one, dict):
        return max(far(one[key], other[key]) for key in one) if one.keys() == other.keys() else np.inf
    if isinstance(one, float):
        return abs(one - other)
    return 0.0 if one == other else np.inf


@pytest.mark.parametrize("task", first_fast(TASKS))
def test_what_stands_beside_a_text_changes_nothing(task, folder, monkeypatch):
    """Alone, in a batch of one, of three, and of many, in any order. XLA:CPU computes small products in other orders than great
    ones, which counts where logits are far apart: so these are of the size of a trained model's."""
    head, settings = TASKS[task]
    ask, inputs = pipeline(task, model=folder(head, 0.2)), asked(task)
    together = ask(inputs, **settings)
    assert len({str(answer) for answer in together}) > 25  # so that an order lost would show
    for one, alone in list(zip(together, inputs, strict=True))[::4]:
        assert far(one, ask(alone, **settings)) < 1e-6
    assert far(ask(inputs[:1], **settings), together[:1]) < 1e-6
    assert far(ask(inputs[::-1], **settings)[::-1], together) < 1e-6
    monkeypatch.setattr(TextReader, "together", 3)
    monkeypatch.setattr(TextReader, "block", 7)
    assert far(ask(inputs, **settings), together) < 1e-6


def test_one_program_a_bucket(folder):
    """Though the last batch of a bucket is not full."""
    jax.clear_caches()
    ask = pipeline("text-classification", folder("BertForSequenceClassification"))
    lengths = [5] * 70 + [20] * 41 + [35] * 3
    ask([" ".join(["cat"] * length) for length in random.Random(0).sample(lengths, len(lengths))])
    assert apply._cache_size() == 3  # up to 16 tokens, up to 32, and the 40 that the model has room for
    ask([" ".join(["dog"] * length) for length in lengths[:90]])
    assert apply._cache_size() == 3
