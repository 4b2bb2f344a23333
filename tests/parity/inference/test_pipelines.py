"""Our pipelines against those of `transformers`, on the same folders and 200 real inputs: question answering against 4.57, which
had it last (`make parity FLAX_PYTHON=…`), all others against the installed one."""

import json
import os
import subprocess
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference import pipeline
from inference.readers.text import TextReader
from models import bert, hub
from tests.parity.inference import pipeline_models
from tests.parity.inference.pipeline_models import ROOM, questions, texts, write
from tests.parity.reference import transformers

SCORE = 1e-4
"""How far scores may be from theirs."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


def same(ours, theirs, near: float = SCORE) -> None:
    """Whether all texts and numbers are the same, and all scores near."""
    assert type(ours) is type(theirs) or isinstance(ours, int | float), (ours, theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs), (ours, theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other, near)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            same(ours[key], theirs[key], near)
    elif isinstance(ours, float):
        assert abs(ours - theirs) < near, (ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("model", ["classifier", "bart-classifier"])
@pytest.mark.parametrize("settings", [{"top_k": None}, {"top_k": 2, "function_to_apply": "sigmoid"}])
def test_text_classification(model, settings, root):
    folder = write(root, model)
    ask, theirs = pipeline("text-classification", folder), transformers.pipeline("text-classification", str(folder))
    asked = texts() if "function_to_apply" not in settings else texts()[:50]
    same(ask(asked, **settings, truncation=True), theirs(asked, **settings, truncation=True))
    same(ask(asked[3], **settings), theirs(asked[3], **settings))
    pairs = [
        {"text": one, "text_pair": other} for one, other in zip(asked[1:], asked[:0:-1], strict=True)
    ]  # none empty
    pairs = pairs[::3]
    same(ask(pairs, **settings, truncation=True), [theirs(pair, **settings, truncation=True) for pair in pairs])


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
@pytest.mark.parametrize("labels", [1, 3])
def test_the_same_scores_of_every_problem(problem, labels, root, tmp_path):
    names = tuple(f"label {number}" for number in range(labels))
    shape = {**pipeline_models.SHAPE, **pipeline_models.LAYERS}
    model = bert.BertForSequenceClassification(bert.BertConfig(problem_type=problem, labels=names, **shape))
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    hub.save(tmp_path / "model", model, variables, tokenizer=write(root, "classifier") / "tokenizer.json")
    asked = texts()[:20]
    expected = transformers.pipeline("text-classification", str(tmp_path / "model"))(asked, top_k=None, truncation=True)
    same(pipeline("text-classification", tmp_path / "model")(asked, truncation=True), expected)


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("model", ["tagger", "distilled-tagger"])
def test_token_classification(model, strategy, root):
    folder = write(root, model)
    ask, theirs = pipeline("token-classification", folder), transformers.pipeline("token-classification", str(folder))
    settings = dict(aggregation_strategy=strategy)
    asked = texts() if strategy in ("none", "average") else texts()[:60]
    same(ask(asked, **settings, truncation=True), plain(theirs(asked, **settings)))
    same(ask(texts()[9], **settings), plain(theirs(texts()[9], **settings)))
    every = dict(settings, ignore_labels=["MISC", "PER"])
    same(ask(texts()[:20], **every, truncation=True), plain(theirs(texts()[:20], **every)))
    if strategy != "none":
        windows = dict(settings, stride=7)
        same(ask(texts()[::4], **windows), plain(theirs(texts()[::4], **windows)))


def plain(found):
    """Answers with numbers of Python in place of numpy's."""
    return json.loads(json.dumps(found, default=lambda x: x.item()))


@pytest.mark.parametrize("model", ["masked", "bart-masked"])
def test_fill_mask(model, root):
    folder = write(root, model)
    ask, theirs = pipeline("fill-mask", folder), transformers.pipeline("fill-mask", str(folder))
    mask = theirs.tokenizer.mask_token
    asked = [f"{mask} {text}" if n % 2 else f"is {mask} the {mask} of {text}" for n, text in enumerate(texts())]
    cut = {"tokenizer_kwargs": {"truncation": True}}
    same(ask(asked, truncation=True), theirs(asked, **cut))
    same(ask(asked[1], top_k=9), theirs(asked[1], top_k=9))
    targets = ["the", "of", "python"]
    few = asked[:40]
    same(ask(few, targets=targets, top_k=2, truncation=True), theirs(few, targets=targets, top_k=2, **cut))


def test_feature_extraction(root):
    """Theirs are the tokens' vectors, ours in one of two ways their mean scaled to length 1."""
    folder = write(root, "encoder")
    ask, theirs = pipeline("feature-extraction", folder), transformers.pipeline("feature-extraction", str(folder))
    expected = theirs(texts(), truncation=True)
    same(ask(texts(), pooling="none", truncation=True), expected)
    for our, their in zip(ask(texts(), truncation=True), expected, strict=True):
        mean = np.mean(their[0], axis=0)
        np.testing.assert_allclose(our["embedding"], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("model", ["classifier", "bart-classifier"])
def test_zero_shot_classification(model, multi_label, root):
    folder = write(root, model)
    ask = pipeline("zero-shot-classification", folder)
    theirs = transformers.pipeline("zero-shot-classification", str(folder))
    asked = [text for text in texts() if text][:60]
    settings = dict(candidate_labels=["a loop", "an object", "cats"], multi_label=multi_label)
    same(ask(asked, **settings), theirs(asked, **settings))
    settings = dict(candidate_labels="a loop", hypothesis_template="On {}.")
    same(ask(asked[:20], **settings), theirs(asked[:20], **settings))


SETTINGS = [
    {},
    {"top_k": 3, "handle_impossible_answer": True, "doc_stride": 9},
    {"max_answer_len": 3, "align_to_words": False, "max_seq_len": 30, "doc_stride": 4, "top_k": 2},
]


def test_question_answering(root, tmp_path):
    """On contexts that are read in up to forty windows; where theirs gives fewer answers than `top_k`, it gives no list."""
    python = os.environ.get("FLAX_PYTHON")
    if python is None:
        pytest.skip("FLAX_PYTHON names no interpreter with transformers 4.57")
    asked = [
        {"model": str(write(root, model)), "pairs": questions()[:: 1 if number == 0 else 5], "settings": settings}
        for model in ("answerer", "bart-answerer")
        for number, settings in enumerate(SETTINGS)
    ]
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("answer_questions.py")
    done = subprocess.run([python, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    longest = 0
    for each, expected in zip(asked, json.loads((tmp_path / "answers.json").read_text()), strict=True):
        ask, settings = pipeline("question-answering", model=each["model"]), each["settings"]
        pairs = [tuple(pair) for pair in each["pairs"]]
        found = ask(pairs, **settings)
        longest = max(longest, *map(len, ask.task.read(ask.reader, pairs)))
        for pair, ours, theirs in zip(pairs, found, expected, strict=True):
            ours, theirs = (x if isinstance(x, list) else [x] for x in (ours, theirs))
            theirs = [answer for answer in theirs if answer["score"] > 0]  # of tokens outside of the context
            same_answers(pair, ours, theirs)
    assert longest > 20


def same_answers(pair, ours, theirs) -> None:
    """Whether scores are near, and answers the same but where two scores are."""
    np.testing.assert_allclose([a["score"] for a in ours], [a["score"] for a in theirs], atol=SCORE, err_msg=str(pair))
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        beside = ours[max(0, number - 1) : number] + ours[number + 1 : number + 2]
        if all(abs(one["score"] - answer["score"]) > SCORE for answer in beside):
            assert {**one, "score": 0} == {**other, "score": 0}, pair


def test_how_many_are_computed_together_changes_nothing(root, monkeypatch):
    folder = write(root, "classifier")
    expected = transformers.pipeline("text-classification", str(folder))(texts()[:30], top_k=None, truncation=True)
    for together in (1, 3, 32):
        monkeypatch.setattr(TextReader, "together", together)
        same(pipeline("text-classification", folder)(texts()[:30], truncation=True), expected)
    assert len(set(texts())) == 200 and max(len(text) for text in texts()) > 10 * ROOM
