"""What the pipelines of texts take and give, and what they refuse."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inference
from data.errors import DataError
from data.text import tokenizers
from inference.pipeline import pipeline
from models import hub
from models.config import ModelError
from tests.inference.small_folders import TEXTS, outputs

QUESTION, CONTEXT = "who sat", "the cat sat on the mat"


def changed(path: Path, target: Path, **settings) -> Path:
    """A folder with other settings in its `config.json`."""
    shutil.copytree(path, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **settings}))
    return target


# ── What an input may come as ────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_comes_as_a_pair_by_name_or_as_keywords(folder):
    ask = inference.pipeline("question-answering", model=folder("BertForQuestionAnswering"))
    answer = ask((QUESTION, CONTEXT))
    assert set(answer) == {"score", "start", "end", "answer"}
    named = {"context": CONTEXT, "question": QUESTION}
    assert answer == ask(named) == ask(question=QUESTION, context=CONTEXT)
    assert ask([named, (QUESTION, CONTEXT)]) == [answer, answer]
    others = ask(question=["the dog", QUESTION], context=CONTEXT)
    assert others[1] == answer and others == ask([("the dog", CONTEXT), named]) == ask(
        question=["the dog", QUESTION], context=[CONTEXT] * 2
    )
    assert [answer] == ask(iter([named]))
    with pytest.raises(ModelError, match="question and context are lists of 1 and 2: make them equal"):
        ask(question=[QUESTION], context=[CONTEXT] * 2)
    with pytest.raises(ModelError, match=r"takes a pair \(question, context\), which has no 'contxt': did you mean"):
        ask({"question": QUESTION, "contxt": CONTEXT})
    with pytest.raises(ModelError, match=r"takes a pair \(question, context\), and \{'question': 'who sat'\} came"):
        ask(question=QUESTION)


def test_pairs_of_texts_are_classified(folder):
    path = folder("BertForSequenceClassification")
    ask, expected = pipeline("text-classification", path), outputs(path, TEXTS[0], TEXTS[1])[0].logits[0]
    found = ask({"text": TEXTS[0], "text_pair": TEXTS[1]})
    assert found == ask((TEXTS[0], TEXTS[1])) == ask(text=TEXTS[0], text_pair=TEXTS[1])
    scores = {answer["label"]: answer["score"] for answer in found}
    np.testing.assert_allclose([scores[name] for name in ("bad", "so so", "good")], jax.nn.softmax(expected), atol=1e-6)
    assert ask([TEXTS[0], (TEXTS[0], TEXTS[1])])[1][0]["score"] == pytest.approx(found[0]["score"], abs=1e-6)
    raw = {answer["label"]: answer["score"] for answer in ask((TEXTS[0], TEXTS[1]), function_to_apply="none")}
    np.testing.assert_allclose([raw[name] for name in ("bad", "so so", "good")], expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"takes a text, or a pair \(text, text_pair\), and \('a', 'b', 'c'\) came"):
        ask(("a", "b", "c"))
    with pytest.raises(ModelError, match="function_to_apply='soft': expected sigmoid, softmax or none"):
        ask("a cat", function_to_apply="soft")


def test_a_regression_gives_its_number(folder, tmp_path):
    """As of STS-B: how alike two texts are."""
    path = changed(folder("BertForSequenceClassification"), tmp_path / "scored", problem_type="regression")
    logits = outputs(path, TEXTS[0], TEXTS[1])[0].logits[0]
    best = pipeline("text-classification", path)((TEXTS[0], TEXTS[1]))[0]
    assert best["score"] == pytest.approx(float(logits.max()), rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_choices_are_scored_together(count, folder):
    """Several numbers of choices, of unequal lengths, against the model's own logits of all of them."""
    path, choices = folder("BertForMultipleChoice"), ["the mat", "dogs and cats", "a", "the river and the cat", "the"]
    model, variables = hub.load(path)
    encodings = [tokenizers.load(path).encode(QUESTION, choice) for choice in choices[:count]]
    rows = np.zeros((3, 1, count, max(len(e.ids) for e in encodings)), np.int32)
    for number, encoding in enumerate(encodings):
        for row, values in zip(rows, (encoding.ids, encoding.attention_mask, encoding.type_ids), strict=True):
            row[0, number, : len(values)] = values
    logits = model.apply(variables, *jnp.asarray(rows)).logits[0]
    found = pipeline("multiple-choice", path)((QUESTION, choices[:count]))
    assert [answer["label"] for answer in found] == np.argsort(-logits).tolist()
    assert [answer["choice"] for answer in found] == [choices[answer["label"]] for answer in found]
    np.testing.assert_allclose([a["score"] for a in found], np.sort(jax.nn.softmax(logits))[::-1], atol=1e-6)
    top = pipeline("multiple-choice", path)({"text": QUESTION, "choices": choices[:count]}, top_k=1)
    assert [top] == [found[:1]]


def test_zero_shot_labels(folder, tmp_path):
    labels = {"0": "contradiction", "1": "neutral", "2": "Entailment"}
    path = changed(folder("BertForSequenceClassification"), tmp_path / "entails", id2label=labels)
    ask = pipeline("zero-shot-classification", path)
    answer = ask(TEXTS[0], candidate_labels="cats, rivers,mats")
    logits = [
        outputs(path, TEXTS[0], f"This example is {label}.")[0].logits[0, 2] for label in ("cats", "rivers", "mats")
    ]
    expected = dict(zip(("cats", "rivers", "mats"), np.asarray(jax.nn.softmax(jnp.array(logits))), strict=True))
    assert answer["sequence"] == TEXTS[0] and sorted(answer["labels"]) == ["cats", "mats", "rivers"]
    np.testing.assert_allclose(answer["scores"], [expected[label] for label in answer["labels"]], atol=1e-6)
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    for settings, message in (
        ({}, "there is no label to choose: set candidate_labels"),
        ({"candidate_labels": ["a", "b", "a"]}, "two candidate_labels are 'a': leave one out"),
        ({"candidate_labels": "a", "hypothesis_template": "an example"}, "hypothesis_template='an example' has no {}"),
    ):
        with pytest.raises(ModelError, match=re.escape(message)):
            ask(TEXTS[0], **settings)
    with pytest.raises(ModelError, match="takes a model with a label `entailment`; there are bad, so so, good"):
        pipeline("zero-shot-classification", folder("BertForSequenceClassification"))


def test_targets_of_a_mask(folder):
    path, text = folder("BertForMaskedLM"), "the [MASK] sat on the mat"
    ask = pipeline("fill-mask", path)
    every = {answer["token_str"]: answer for answer in ask(text, top_k=90)}
    found = ask(text, targets=["dog", "cat", "mat", "cat"])
    assert found == sorted((every[name] for name in ("cat", "dog", "mat")), key=lambda answer: -answer["score"])
    assert ask(text, targets="dog") == [every["dog"]]
    with pytest.raises(ModelError, match="targets: '' has no tokens: leave it out"):
        ask(text, targets=["dog", ""])
    with pytest.raises(ModelError, match="targets is empty: name at least one token"):
        ask(text, targets=[])


# ── Texts longer than the model, and what else is refused ────────────────────────────────────────────────────────────


def test_a_context_longer_than_the_model_is_read_to_its_end(folder):
    """The answer is where the model scores it best alone: in the window that holds it."""
    ask = pipeline("question-answering", folder("BertForQuestionAnswering"))
    context = " ".join(f"{word} {number}" for number, word in enumerate(" ".join(TEXTS[:9]).split()))
    answers = ask((QUESTION, context), top_k=40, max_answer_len=2)
    ends = [answer["end"] for answer in answers]
    assert max(ends) > len(context) * 0.9 and min(ends) < len(context) * 0.1
    assert all(context[answer["start"] : answer["end"]] == answer["answer"] for answer in answers)
    (best, second) = ask((QUESTION, context), top_k=2, ranking="logits")
    assert best["score"] > second["score"] and ask((QUESTION, context), ranking="logits") == best


def test_there_may_be_no_answer(folder):
    ask = pipeline("question-answering", folder("BertForQuestionAnswering"))
    answers = ask((QUESTION, CONTEXT), top_k=50, handle_impossible_answer=True)
    (nothing,) = [answer for answer in answers if not answer["answer"]]
    assert (nothing["start"], nothing["end"]) == (0, 0) and 0 < nothing["score"] < 1
    assert all(answer["answer"] for answer in ask((QUESTION, CONTEXT), top_k=50))


def test_long_texts_are_cut_off_on_request_alone(folder):
    long = " ".join(["the cat sat on the mat"] * 20)
    sentence = "a text of 122 tokens does not fit a model with room for 40: shorten 'the cat.*, or set truncation=True"
    for task, head, settings in (
        ("text-classification", "BertForSequenceClassification", {}),
        ("feature-extraction", "BertModel", {}),
        ("token-classification", "BertForTokenClassification", {}),
    ):
        ask = pipeline(task, folder(head))
        with pytest.raises(ModelError, match=sentence):
            ask(["a cat", long], **settings)
        words = long.split()[:38]
        assert ask(long, **settings, truncation=True) == ask(" ".join(words), **settings)
    pairs = pipeline("text-classification", folder("BertForSequenceClassification"))
    assert pairs((long, "dogs and cats"), truncation=True) == pairs((" ".join(long.split()[:34]), "dogs and cats"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_seq_len": 41}, "max_seq_len=41, and the model has room for 40 tokens"),
        ({"doc_stride": 40}, "doc_stride=40 of windows of 40 tokens: make it less"),
        ({"max_answer_len": 0}, "max_answer_len=0: expected a whole number of at least 1"),
        ({"top_k": 0}, "top_k=0: expected a whole number of at least 1"),
        ({"doc_stride": -1}, "doc_stride=-1: expected a whole number of at least 0"),
        ({"ranking": "best"}, "ranking='best': expected probability or logits"),
        ({"longest": 3}, "question-answering has no setting 'longest'"),
    ],
)
def test_settings_of_questions_that_cannot_be(settings, message, folder):
    with pytest.raises(ModelError, match=re.escape(message)):
        pipeline("question-answering", folder("BertForQuestionAnswering"))((QUESTION, CONTEXT), **settings)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((QUESTION, ""), "the context of 'who sat' is empty: there is no span to choose"),
        ((QUESTION, " \n"), "the context of 'who sat' is empty: there is no span to choose"),
        (("", CONTEXT), "the question '' of 'the cat sat on the mat' is empty: there is nothing to answer"),
        ((" ".join([QUESTION] * 30), CONTEXT), "40 tokens leave no room for a text beside 'who sat who sat"),
    ],
)
def test_questions_that_cannot_be_answered(pair, message, folder):
    ask = pipeline("question-answering", folder("BertForQuestionAnswering"))
    with pytest.raises((ModelError, DataError), match=re.escape(message)):
        ask([(QUESTION, CONTEXT), pair])
    if len(pair[0]) > 99:
        short = ask(
            pair, max_question_len=len(tokenizers.load(folder("BertForQuestionAnswering")).encode(QUESTION).ids) - 2
        )
        assert short == ask((QUESTION, CONTEXT))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregation_strategy": "last"}, "aggregation_strategy='last': expected none, simple, first, average, max"),
        ({"stride": 4}, "stride=4 needs an aggregation_strategy, such as simple, to join windows by"),
        ({"stride": 39, "aggregation_strategy": "max"}, "stride=39 of windows of 40 tokens: make it less"),
    ],
)
def test_settings_of_tags_that_cannot_be(settings, message, folder):
    with pytest.raises(ModelError, match=re.escape(message)):
        pipeline("token-classification", folder("BertForTokenClassification"))(CONTEXT, **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("the", ["cat"]), "'the' has 1 choice(s): give two or more"),
        (("the", "cat"), "takes a pair (text, choices), with a list of at least two choices, and ('the', 'cat') came"),
        ("the cat", "and 'the cat' came"),
    ],
)
def test_choices_that_cannot_be(given, message, folder):
    with pytest.raises(ModelError, match=re.escape(message)):
        pipeline("multiple-choice", folder("BertForMultipleChoice"))(given)


def test_folders_that_do_not_fit(folder, tmp_path):
    path = folder("BertForSequenceClassification")
    more = changed(path, tmp_path / "more", id2label={str(n): f"label {n}" for n in range(5)})
    with pytest.raises(ModelError, match=r"misshapen: .*classifier"):
        pipeline("text-classification", more)
    twice = changed(path, tmp_path / "twice", id2label={"0": "bad", "1": "good", "2": "bad"})
    with pytest.raises(ModelError, match="two labels are 'bad'"):
        pipeline("text-classification", twice)
    fewer = changed(folder("BertModel"), tmp_path / "fewer")
    names = json.loads((fewer / "tokenizer.json").read_text())
    names["model"]["vocab"]["beyond"] = 90
    (fewer / "tokenizer.json").write_text(json.dumps(names))
    with pytest.raises(ModelError, match="gives 'beyond' the id 90, and the model has embeddings of 90 tokens"):
        pipeline("feature-extraction", fewer)(["the cat", "beyond"])
    with pytest.raises(ModelError, match=r"question-answering asks for start_logits \(tokens\); BertModel gives"):
        pipeline("question-answering", folder("BertModel"))
    with pytest.raises(ModelError, match=r"multiple-choice asks for logits \(choices\); BertForSequenceC.* gives"):
        pipeline("multiple-choice", path)
