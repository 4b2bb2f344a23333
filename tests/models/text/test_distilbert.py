"""DistilBERT held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import distilbert
from models.bert import BertLayer
from models.config import ModelError
from models.distilbert import DistilBertConfig
from models.layers.stack import stack

SMALL = DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=20)
CASED = 28_996


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


@pytest.mark.parametrize(
    ("head", "uncased", "cased"),
    [
        ("DistilBertModel", 66_362_880, 65_190_912),
        ("DistilBertForMaskedLM", 66_985_530, 65_812_036),
        ("DistilBertForSequenceClassification", 66_955_010, 65_783_042),
        ("DistilBertForQuestionAnswering", 66_364_418, 65_192_450),
    ],
)
def test_parameter_counts_of_the_published_models(head, uncased, cased):
    for vocabulary, count in ((30_522, uncased), (CASED, cased)):
        model = getattr(distilbert, head)(DistilBertConfig.base(vocab_size=vocabulary))
        shapes = jax.eval_shape(lambda: variables_of(model))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_forward_flops_are_those_of_a_bert_of_this_shape():
    shapes = {"input_ids": (2, 16), "masked_positions": (2, 3)}
    per_token = 2 * (4 * 2 * 32**2 + 2 * 2 * 32 * 64 + 2 * 2 * 32 * 16)
    assert distilbert.DistilBertForMaskedLM(SMALL).forward_flops(shapes) == 2 * 16 * per_token + 2 * 3 * (
        2 * 32**2 + 2 * 32 * 60
    )


def test_what_attention_returns_is_not_dropped():
    """With an MLP that returns nothing, a layer does the same to the same embeddings with dropout as without."""
    config = dataclasses.replace(SMALL, n_layers=1, attention_dropout=0.0, dropout=0.5)
    model = distilbert.DistilBertModel(config)
    params = variables_of(model)["params"]
    params["layers"]["down"] = jax.tree.map(jnp.zeros_like, params["layers"]["down"])
    ids = jnp.asarray(np.random.default_rng(0).integers(5, SMALL.vocab_size, (2, 8)), jnp.int32)
    keys = jax.random.split(jax.random.key(1), 2)
    found = model.apply({"params": params}, ids, dropout_keys=keys, output_hidden_states=True)
    layers = stack(BertLayer, config, 1, None)
    expected, _ = layers.apply({"params": params["layers"]}, found.hidden_states[0], jnp.arange(1), (None, None))
    np.testing.assert_allclose(found.last_hidden_state, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"dim": 30}, "does not divide"), ({"activation": "glu"}, "unknown activation"), ({"n_layers": 0}, "n_layers=0")],
)
def test_impossible_shapes_are_refused(changes, said):
    with pytest.raises(ModelError, match=said):
        DistilBertConfig(**{"n_heads": 4, **changes})
