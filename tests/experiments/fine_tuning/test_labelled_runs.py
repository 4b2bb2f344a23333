"""Runs of labelled texts: a regression on pairs, classes with each architecture; `transformers` opens what they leave."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data.forms import TextForm
from data.text.labelled import LabelledText
from experiments.commands.train import train
from experiments.experiment import Experiment, Phase, load
from inference.pipeline import pipeline
from models import hub
from models.bart import BartConfig
from models.bert import BertConfig
from models.config import ModelConfig
from models.distilbert import DistilBertConfig
from models.gpt2 import GPT2Config
from tests.data.text.test_labelled import WORDS

pytestmark = pytest.mark.slow

BERT = BertConfig(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_dropout_prob=0.0,
)
SMALL: dict[str, ModelConfig] = {
    "BertForSequenceClassification": BERT,
    "DistilBertForSequenceClassification": DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=64
    ),
    "GPT2ForSequenceClassification": GPT2Config(
        vocab_size=300, n_positions=40, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    ),
    "BartForSequenceClassification": BartConfig(
        vocab_size=300,
        max_position_embeddings=40,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    ),
}


def run(recipe: str, folder: Path, architecture: str, learning_rate: float = 3e-3, **settings) -> dict:
    """The result of a short run of a recipe with a small model."""
    experiment: Experiment = load(recipe)
    experiment = dataclasses.replace(
        experiment,
        architecture=architecture,
        model=SMALL[architecture],
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=learning_rate, warmup_steps=10),
        phases=(Phase(1.0, TextForm(40)),),
        batch_size=16,
        folder=str(folder / "run"),
        **settings,
    )
    train(experiment, "a test")
    return json.loads((folder / "run/result.json").read_text())


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> tuple[Path, dict]:
    """A run on pairs of texts, of which the second decides the number."""
    folder, random = tmp_path_factory.mktemp("scored"), np.random.default_rng(0)
    rows = []
    for _ in range(500):
        number = int(random.integers(0, len(WORDS)))
        rows.append((" ".join(random.choice(WORDS, 4)), WORDS[number], number / 2))
    table = "".join(f"{one}\t{other}\t{score}\n" for one, other, score in rows)
    (folder / "t.tsv").write_text("sentence1\tsentence2\tlabel\n" + table)
    data = dataclasses.replace(load("experiments/bert/glue.py:stsb").data, source=str(folder / "t.tsv"), held_out=0.2)
    data = dataclasses.replace(data, cache=str(folder / "cache"))
    return folder, run(
        "experiments/bert/glue.py:stsb",
        folder,
        "BertForSequenceClassification",
        learning_rate=1e-3,
        data=data,
        steps=300,
        evaluate_every=150,
        checkpoint_every=150,
    )


def test_a_regression_on_pairs_learns_and_says_how_well(scored):
    _, result = scored
    assert result["held_out"]["spearman"] > 0.9 and result["held_out"]["regression_loss"] < 0.5
    for figure in ("pearson", "spearman"):
        low, high = result["intervals"][figure]
        assert low <= result["held_out"][figure] <= high


def test_transformers_gives_a_pair_the_same_number(scored):
    transformers = pytest.importorskip("transformers")
    import torch

    folder = scored[0] / "run/model"
    about = json.loads((folder / "config.json").read_text())
    assert about["problem_type"] == "regression" and about["id2label"] == {"0": "LABEL_0"}
    pairs = [("green stone", "red red old old"), ("blue " * 30, "red"), ("river", "cloud seven " * 30)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        *map(list, zip(*pairs, strict=True)), padding=True, truncation=True, max_length=40, return_tensors="pt"
    )
    expected = transformers.AutoModelForSequenceClassification.from_pretrained(folder)(**inputs)
    model, variables = hub.load(folder)
    found = model.apply(variables, **{name: jnp.asarray(x.numpy(), jnp.int32) for name, x in inputs.items()})
    np.testing.assert_allclose(found.logits, expected.logits.detach(), atol=1e-5)
    assert inputs["token_type_ids"].max() == 1 and isinstance(expected.logits, torch.Tensor)
    (answer,) = pipeline("text-classification", folder)("green stone")
    theirs = transformers.pipeline("text-classification", model=str(folder))("green stone")[0]
    assert answer["score"] == pytest.approx(theirs["score"], abs=1e-5)


@pytest.mark.parametrize("architecture", SMALL)
def test_each_architecture_tells_texts_apart_and_transformers_says_the_same(architecture: str, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    random, folder = np.random.default_rng(1), tmp_path / "texts"
    for number in range(240):
        words = random.choice(WORDS[:4] if number % 2 else WORDS[4:], random.integers(2, 12))
        (folder / ("even", "odd")[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / ("even", "odd")[number % 2] / f"{number}.txt").write_text(" ".join(words))
    kind = "wordpiece" if "Bert" in architecture else "byte_bpe"
    data = LabelledText(source=str(folder), kind=kind, held_out=0.2, cache=str(tmp_path / "cache"))
    settings = dict(data=data, steps=60, evaluate_every=30, checkpoint_every=30)
    result = run("experiments/bert/classify.py", tmp_path, architecture, **settings)
    assert result["held_out"]["accuracy"] > 0.9
    model = tmp_path / "run/model"
    ours, theirs = (made("text-classification", str(model)) for made in (pipeline, transformers.pipeline))
    texts = ["red green", "river", "cloud seven old " * 3, "blue"]
    for text, (best, *_), other in zip(texts, ours(texts), theirs(texts), strict=True):
        assert best["label"] == other["label"], text
        assert best["score"] == pytest.approx(other["score"], abs=1e-5)
    batched = theirs(texts, batch_size=4)  # pads with what the folder names for it
    assert [one["score"] for one in batched] == pytest.approx([one[0]["score"] for one in ours(texts)], abs=1e-5)
