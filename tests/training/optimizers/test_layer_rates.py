"""Rates that fall from layer to layer: the published numbers, for a stack of layers and for a model's own rule."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.assembly.checks import check_rates
from experiments.experiment import ExperimentError, load
from models.bart import BartConfig, BartModel
from models.config import ModelError
from models.convnext import ConvNextConfig, ConvNextForImageClassification
from models.vit import ViTConfig, ViTForImageClassification
from training.layer_rates import layer_rates
from training.optimizers import AdamW, Stepwise

LAYERS, DECAY = 3, 0.7


VIT = ViTForImageClassification(
    ViTConfig(hidden_size=4, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=8, image_size=32)
)


def vit() -> dict:
    return jax.tree.map(lambda x: jnp.zeros(x.shape), nn.unbox(VIT.boxed_shapes()["params"]))


def convnext() -> dict:
    depths = (3, 3, 9, 3)
    body = {f"stage_{stage}": {"up": {"kernel": np.zeros((depth, 2, 2))}} for stage, depth in enumerate(depths)}
    body |= {f"downsampling_{stage}": {"kernel": np.zeros((2, 2, 2, 2))} for stage in (1, 2, 3)}
    body |= {"patches": {"kernel": np.zeros((4, 4, 3, 2))}, "norm": {"scale": np.zeros(2)}}
    return jax.tree.map(jnp.asarray, {"convnext": body, "classifier": {"kernel": np.zeros((2, 2))}})


convnext_depth = ConvNextForImageClassification(ConvNextConfig.tiny()).depth


def test_layers_of_a_stack_are_steps_between_embeddings_and_head():
    """`get_num_layer_for_vit` of BEiT: embeddings 0, layer i has i + 1, norm and head have L + 1."""
    rates = layer_rates(vit(), DECAY, VIT.depth)
    assert all(
        x == np.float32(DECAY**4)
        for x in jax.tree.leaves([rates["vit"]["patch_embeddings"], rates["vit"]["cls_token"]])
    )
    assert rates["vit"]["position_embeddings"] == np.float32(DECAY**4)
    for stacked in jax.tree.leaves(rates["vit"]["layers"]):
        np.testing.assert_allclose(stacked, [DECAY**3, DECAY**2, DECAY], rtol=1e-6)
    assert all(x == 1 for x in jax.tree.leaves([rates["classifier"], rates["vit"]["norm"]]))


def test_a_model_may_know_better():
    rates = layer_rates(convnext(), 0.8, convnext_depth)
    body = rates["convnext"]
    np.testing.assert_allclose(body["stage_2"]["up"]["kernel"], np.repeat(0.8 ** np.arange(10.0, 7, -1), 3), rtol=1e-6)
    np.testing.assert_allclose(body["stage_0"]["up"]["kernel"], [0.8**12] * 3, rtol=1e-6)
    assert body["patches"]["kernel"] == np.float32(0.8**13) and rates["classifier"]["kernel"] == 1
    assert body["downsampling_3"]["kernel"] == np.float32(0.8)


def test_updates_are_multiplied_layer_by_layer_weight_decay_and_all():
    params = jax.tree.map(lambda x: x + 1.0, vit())
    gradient = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(x.size).normal(size=x.shape), x.dtype), params)
    plain = AdamW(learning_rate=0.1, warmup_steps=1, weight_decay=0.5)

    def moved(settings):
        optimizer = settings.build(10, VIT.depth)
        return jax.jit(lambda params: optimizer.update(gradient, optimizer.init(params), params)[0])(params)

    whole, falling = moved(plain), moved(AdamW(**{**vars(plain), "layer_decay": DECAY}))
    kernel = falling["vit"]["layers"]["attention"]["out"]["kernel"]
    for number in range(LAYERS):
        wanted = whole["vit"]["layers"]["attention"]["out"]["kernel"][number] * DECAY ** (LAYERS - number)
        np.testing.assert_allclose(kernel[number], wanted, rtol=1e-6)
    np.testing.assert_array_equal(falling["classifier"]["bias"], whole["classifier"]["bias"])
    np.testing.assert_allclose(
        falling["vit"]["patch_embeddings"]["kernel"], whole["vit"]["patch_embeddings"]["kernel"] * DECAY**4, rtol=1e-6
    )


def test_the_rule_of_a_model_reaches_the_optimizer():
    params, settings = convnext(), AdamW(learning_rate=0.1, warmup_steps=1, weight_decay=0.0, layer_decay=0.8)
    gradient = jax.tree.map(jnp.ones_like, params)
    optimizer = settings.build(10, convnext_depth)
    updates = jax.jit(lambda params: optimizer.update(gradient, optimizer.init(params), params)[0])(params)
    first, head = updates["convnext"]["patches"]["kernel"], updates["classifier"]["kernel"]
    np.testing.assert_allclose(float(first.mean() / head.mean()), 0.8**13, rtol=1e-5)


def test_several_stacks_without_a_rule_are_refused_when_the_state_is_made():
    model = BartModel(BartConfig(d_model=8, encoder_attention_heads=2, decoder_attention_heads=2, vocab_size=9))
    params = nn.unbox(model.boxed_shapes()["params"])
    with pytest.raises(ModelError, match=r"several stacks of layers \(decoder/layers, encoder/layers\).* `depth`"):
        jax.eval_shape(AdamW(layer_decay=0.8).build(10, model.depth).init, params)
    jax.eval_shape(AdamW().build(10).init, params)


def test_a_part_of_a_model_may_change_more_slowly():
    params = vit()
    gradients = jax.tree.map(lambda x: jnp.ones_like(x), params)
    settings = dict(learning_rate=1e-2, weight_decay=0.0, clip_norm=None)
    plain, slow = (
        Stepwise(**settings, **more).build(10) for more in ({}, {"slower": "vit/(patch|layers)", "slower_by": 0.25})
    )
    (expected, _), (found, _) = (x.update(gradients, x.init(params), params) for x in (plain, slow))
    for path, x in jax.tree_util.tree_leaves_with_path(found):
        whole = jax.tree_util.tree_leaves_with_path(expected)
        factor = 0.25 if path[1].key in ("patch_embeddings", "layers") else 1.0
        np.testing.assert_allclose(x, factor * dict(whole)[path], rtol=1e-6)
    recipe = load("experiments/detr/pretrain.py:resnet_50")
    wrong = dataclasses.replace(recipe, optimizer=Stepwise(slower="trunk"))
    model = VIT.clone()
    with pytest.raises(ExperimentError, match="slower='trunk': the path of no parameter has this in it"):
        check_rates(model, wrong)
    check_rates(model, dataclasses.replace(recipe, optimizer=Stepwise(slower="patch_embeddings")))
