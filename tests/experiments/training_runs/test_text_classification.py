"""Texts fine-tuned by their labels, through the command line: from a checkpoint, with metrics, exported, asked."""

import dataclasses
import json
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.tokenizers import train_tokenizer
from inference.pipeline import pipeline
from models import hub
from tests.experiments import small_texts
from tests.experiments.training_runs.test_runs import lacuna, python_m

pytestmark = pytest.mark.slow

SMALL = str(Path(small_texts.__file__))
WORDS = {
    "animals": ["cat", "dog", "horse", "cow", "sheep", "goat"],
    "plants": ["oak", "fern", "rose", "moss", "beech", "lily"],
}
ASKED = ["the cat and the dog", "an oak beside a rose", "goat lily moss"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Two classes of sentences, one text a file; a word in ten is one of the other class."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("classes")
    for label, words in WORDS.items():
        (folder / label).mkdir()
        others = next(other for name, other in WORDS.items() if name != label)
        for number in range(120):
            chosen = [draw.choice(others if draw.random() < 0.1 else words) for _ in range(8)]
            (folder / label / f"{number:03}.txt").write_text(" and the ".join(chosen))
    return folder


@pytest.fixture(scope="module")
def published(texts, tmp_path_factory) -> Path:
    """A checkpoint of a classifier with three other labels, random, with its tokenizer."""
    folder = tmp_path_factory.mktemp("published")
    written = [file.read_text() for file in texts.glob("*/*.txt")]
    train_tokenizer(written, vocab_size=400, path=folder / "tokenizer.json")
    config = dataclasses.replace(small_texts.small().model, labels=("one", "two", "three"), initializer_range=0.1)
    model = hub.model_class("bert", "BertForSequenceClassification")(config)
    variables = jax.jit(model.init)(jax.random.key(7), jnp.zeros((1, 4), jnp.int32))
    hub.save(folder / "model", model, variables, tokenizer=folder / "tokenizer.json")
    return folder / "model"


def command(folder: Path, texts: Path, *arguments: str, verb: str = "train") -> list[str]:
    return [*python_m(verb), f"{SMALL}:small", "--folder", str(folder), "--data.source", str(texts), *arguments]


@pytest.fixture(scope="module")
def tuned(texts, published, environment, tmp_path_factory):
    """A finished run, and what it wrote to the terminal."""
    folder = tmp_path_factory.mktemp("tuned")
    done = lacuna(command(folder, texts, "--initial-model", str(published)), environment)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr + done.stdout


def test_a_head_for_other_labels_is_initialised_and_the_encoder_kept(tuned, published):
    folder, said = tuned
    assert "freshly initialised" in said and "3 other labels" in said and "classifier" in said
    _, before = hub.load(published)
    _, after = hub.load(folder / "model")
    kernels = [tree["params"]["bert"]["layers"]["up"]["kernel"] for tree in (before, after)]
    assert 0 < np.abs(kernels[0] - kernels[1]).mean() < 0.5 * np.abs(kernels[0]).mean()
    assert after["params"]["classifier"]["kernel"].shape[-1] == 2


def test_figures_have_intervals_and_the_best_checkpoint_the_best_f1(tuned):
    folder, _ = tuned
    result = json.loads((folder / "result.json").read_text())
    held_out, intervals = result["held_out"], result["intervals"]
    for figure in ("accuracy", "f1"):
        low, high = intervals[figure]
        assert low <= held_out[figure] <= high and held_out[figure] > 0.85
    assert held_out["accuracy"] == pytest.approx(held_out["top_1_accuracy"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line["f1"] for line in lines if line["split"] == "held_out"}
    assert measured[result["best_step"]] == held_out["f1"] == max(measured.values()) and len(measured) == 4


def test_the_exported_model_names_its_labels_and_answers(tuned, environment):
    folder, _ = tuned
    about = json.loads((folder / "model" / "config.json").read_text())
    assert about["id2label"] == {"0": "animals", "1": "plants"} and about["label2id"] == {"animals": 0, "plants": 1}
    said = lacuna([*python_m("predict"), "text-classification", *ASKED, "--model", str(folder / "model")], environment)
    assert said.returncode == 0, said.stderr
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer[0]["label"] for answer in answers] == ["animals", "plants", "plants"]
    expected = pipeline("text-classification", folder / "model")(ASKED)
    assert answers[0][0]["score"] == pytest.approx(expected[0][0]["score"], abs=1e-6)


def test_transformers_gives_the_same_probabilities(tuned):
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("transformers needs torch to run a model")
    folder, _ = tuned
    theirs = transformers.pipeline("text-classification", model=str(folder / "model"), top_k=None)
    ours = pipeline("text-classification", folder / "model")
    texts = [*ASKED, "Cat", "cat oak " * 10]
    for one, other in zip(ours(texts), theirs(texts), strict=True):
        assert [answer["label"] for answer in one] == [answer["label"] for answer in other]
        np.testing.assert_allclose([a["score"] for a in one], [a["score"] for a in other], atol=1e-5)


def test_from_scratch_a_tokenizer_is_trained_on_the_texts(texts, environment, tmp_path):
    done = lacuna(command(tmp_path, texts, "--steps", "2"), environment)
    assert done.returncode == 0, done.stderr
    assert "cat" in (tmp_path / "model" / "tokenizer.json").read_text()
    assert pipeline("text-classification", tmp_path / "model")("a cat")[0]["label"] in WORDS
