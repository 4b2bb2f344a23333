"""Our pipelines against those of `transformers`, on the same folder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.tokenizers import train_tokenizer
from inference.pipeline import pipeline
from models import bert, hub

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["the cat sat on the mat and looked at the dog", "dogs and cats are animals that do not speak to rivers"] * 9
ASKED = ["The cats' mat [MASK] wet, isn't it?", "A dog [MASK]"]


@pytest.fixture
def ours_and_theirs(tmp_path):
    def of(task: str, head: str, **settings):
        tokenizer = tmp_path / "tokenizer.json"
        train_tokenizer(TEXTS, vocab_size=90, path=tokenizer)
        config = bert.BertConfig(
            vocab_size=90,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
            initializer_range=0.5,
            labels=("bad", "so so", "good"),
        )
        model = getattr(bert, head)(config)
        folder = tmp_path / head
        hub.save(
            folder, model, nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))), tokenizer=tokenizer
        )
        return pipeline(task, folder)(ASKED), transformers.pipeline(task, model=str(folder), **settings)(ASKED)

    return of


@pytest.mark.parametrize(
    ("task", "head", "settings"),
    [
        ("fill-mask", "BertForMaskedLM", {}),
        ("text-classification", "BertForSequenceClassification", {"top_k": None}),
        ("token-classification", "BertForTokenClassification", {"ignore_labels": []}),
    ],
)
def test_the_same_answers(task, head, settings, ours_and_theirs):
    ours, theirs = ours_and_theirs(task, head, **settings)
    assert len(ours) == len(theirs) == len(ASKED)
    for our, their in zip(ours, theirs, strict=True):
        assert len(our) == len(their)
        for one, other in zip(our, their, strict=True):
            assert abs(one["score"] - other["score"]) < 1e-5
            assert {k: v for k, v in one.items() if k != "score"} == {k: other[k] for k in one if k != "score"}


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
@pytest.mark.parametrize("labels", [1, 3])
def test_the_same_scores_of_every_problem(problem, labels, tmp_path):
    train_tokenizer(TEXTS, vocab_size=90, path=tmp_path / "tokenizer.json")
    shape = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, initializer_range=0.5
    )
    names = tuple(f"label {number}" for number in range(labels))
    model = bert.BertForSequenceClassification(
        bert.BertConfig(vocab_size=90, max_position_embeddings=40, problem_type=problem, labels=names, **shape)
    )
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    hub.save(tmp_path / "model", model, variables, tokenizer=tmp_path / "tokenizer.json")
    expected = transformers.pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)(ASKED)
    for ours, theirs in zip(pipeline("text-classification", tmp_path / "model")(ASKED), expected, strict=True):
        assert [answer["label"] for answer in ours] == [answer["label"] for answer in theirs]
        np.testing.assert_allclose([a["score"] for a in ours], [a["score"] for a in theirs], atol=1e-5)


def test_the_same_features(ours_and_theirs):
    """Theirs are the tokens' vectors, ours their mean scaled to length 1."""
    ours, theirs = ours_and_theirs("feature-extraction", "BertModel")
    for our, their in zip(ours, theirs, strict=True):
        mean = np.mean(their[0], axis=0)
        np.testing.assert_allclose(our["embedding"], mean / np.linalg.norm(mean), atol=1e-5)
