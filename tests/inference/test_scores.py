"""What scores of labels are, and where they are read."""

import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text import tokenizers
from inference.pipeline import pipeline
from inference.scores import probabilities
from models import bert, gpt2, hub, llama
from models.config import ModelError
from tests.inference.small_folders import TEXTS, outputs


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        (None, 3, jax.nn.softmax),
        ("single_label_classification", 3, jax.nn.softmax),
        ("multi_label_classification", 3, jax.nn.sigmoid),
        ("regression", 3, lambda scores: scores),
        (None, 1, jax.nn.sigmoid),
        ("single_label_classification", 1, jax.nn.sigmoid),
        ("regression", 1, lambda scores: scores),
    ],
)
def test_scores_are_what_the_problem_says(problem, labels, expected):
    logits = np.random.default_rng(0).normal(size=(4, labels)).astype(np.float32) * 9
    config = bert.BertConfig.from_json(
        {"model_type": "bert", "problem_type": problem, "id2label": {str(i): f"label {i}" for i in range(labels)}}
    )
    assert config.to_json().get("problem_type") == problem
    np.testing.assert_allclose(probabilities(logits, config), np.asarray(expected(logits)), atol=1e-6)


def test_a_problem_that_there_is_none_of():
    with pytest.raises(ModelError, match="problem_type='ranking': expected regression, single_label_classification,"):
        bert.BertConfig(problem_type="ranking")


def test_labels_of_several_at_once_are_scored_each_by_itself(folder, tmp_path):
    path = shutil.copytree(folder("BertForSequenceClassification"), tmp_path / "bert")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    answers = pipeline("text-classification", path)(TEXTS[0])
    logits = outputs(path, TEXTS[0])[0].logits[0]
    by_label = {a["label"]: a["score"] for a in answers}
    np.testing.assert_allclose([by_label[name] for name in ("bad", "so so", "good")], jax.nn.sigmoid(logits), atol=1e-6)
    assert pipeline("text-classification", path)(TEXTS[0], top_k=2) == answers[:2]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("padding", [None, 0])
def test_causal_classifiers_read_their_last_real_token(kind, padding, tokenizer, tmp_path):
    """Whatever stands behind or before it: rows of a batch, a mask on either side, and a text of the pipeline."""
    sizes = dict(vocab_size=90, pad_token_id=padding, labels=("bad", "so so", "good"), initializer_range=0.5)
    if kind == "gpt2":
        config = gpt2.GPT2Config(
            **sizes, n_positions=40, n_embd=16, n_layer=2, n_head=2, eos_token_id=1, bos_token_id=1
        )
        model = gpt2.GPT2ForSequenceClassification(config)
    else:
        shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        config = llama.LlamaConfig(**sizes, **shape, max_position_embeddings=40, bos_token_id=2, eos_token_id=3)
        model = llama.LlamaForSequenceClassification(config)
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    ids = np.array([[5, 6, 7, 8], [9, 10, 0, 0], [11, 0, 0, 0]])
    mask = (ids > 0).astype(np.int32)
    run = jax.jit(model.apply)
    alone = [run(variables, row[None, :count]).logits[0] for row, count in zip(ids, mask.sum(1), strict=True)]
    np.testing.assert_allclose(run(variables, ids, mask).logits, alone, atol=1e-5)
    left, positions = np.sort(mask, axis=1), np.maximum(np.cumsum(np.sort(mask, axis=1), axis=1) - 1, 0)
    turned = np.take_along_axis(ids, np.argsort(mask, axis=1, kind="stable"), axis=1)
    np.testing.assert_allclose(run(variables, turned, left, positions).logits, alone, atol=1e-5)
    hub.save(tmp_path / kind, model, variables, tokenizer=tokenizer)
    ask, texts = pipeline("text-classification", tmp_path / kind), ["a mat", TEXTS[0], "dogs"]
    for text, answer in zip(texts, ask(texts), strict=True):
        expected = jax.nn.softmax(run(variables, np.array([ask_ids(tmp_path / kind, text)])).logits[0])
        scores = {a["label"]: a["score"] for a in answer}
        np.testing.assert_allclose([scores[name] for name in config.labels], expected, atol=1e-5)


def ask_ids(path: Path, text: str) -> list[int]:
    return tokenizers.load(path).encode(text).ids


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_numbers_of_answers_that_cannot_be(count, folder):
    with pytest.raises(ModelError, match=f"top_k={count}: expected a whole number of at least 1"):
        pipeline("fill-mask", folder("BertForMaskedLM"))("the [MASK]", top_k=count)
    with pytest.raises(ModelError, match=f"top_k={count}: expected"):
        pipeline("text-classification", folder("BertForSequenceClassification"))("the cat", top_k=count)
    with pytest.raises(ModelError, match=f"max_answer_len={count}: expected"):
        pipeline("question-answering", folder("BertForQuestionAnswering"))(("who", "the cat"), max_answer_len=count)
