"""Products with the Hessian, forward over reverse, as second-order optimizers take them, through every hand-written gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BertConfig, BertForMaskedLM
from models.llama import LlamaConfig, LlamaForCausalLM
from models.resnet import ResNetConfig, ResNetForImageClassification
from objectives.losses import cross_entropy

IDS = jnp.asarray(np.random.default_rng(0).integers(5, 40, (2, 7)), jnp.int32)
MODELS = {
    "bert": (
        BertForMaskedLM(
            BertConfig(
                vocab_size=40,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=24,
                max_position_embeddings=8,
            )
        ),
        {"input_ids": IDS, "attention_mask": jnp.ones_like(IDS).at[0, 5:].set(0)},
        IDS,
        {"dropout_keys": jax.random.split(jax.random.key(0), 2)},
    ),
    "llama": (
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=40,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=1,
                num_attention_heads=4,
                num_key_value_heads=2,
            )
        ),
        {"input_ids": IDS},
        IDS,
        {},
    ),
    "resnet": (
        ResNetForImageClassification(
            ResNetConfig(embedding_size=4, hidden_sizes=(8,), depths=(2,), labels=("a", "b", "c"))
        ),
        {"pixel_values": jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, 24, 3)), jnp.float32)},
        jnp.array([0, 2]),
        {"batch_axes": ()},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_product_with_the_hessian_is_the_derivative_of_a_slope(name):
    model, inputs, labels, settings = MODELS[name]
    others = dict(nn.unbox(jax.jit(lambda: model.init(jax.random.key(0), **inputs))()))
    params = others.pop("params")

    def loss(params):
        outputs, _ = model.apply({"params": params, **others}, **inputs, **settings, mutable=["batch_stats"])
        amount, weight = cross_entropy(outputs.logits, labels)
        return amount / weight

    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    along = jax.tree.unflatten(form, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])

    @jax.grad
    def slope(params):
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(loss)(params), along)))

    forward = jax.jit(lambda params: jax.jvp(jax.grad(loss), (params,), (along,))[1])(params)
    reverse = jax.jit(slope)(params)
    for found, expected in zip(jax.tree.leaves(forward), jax.tree.leaves(reverse), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max() + 1e-6)
