"""Swin held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.config import ModelError
from models.swin import (
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    SwinMerging,
    SwinModel,
    relative_places,
)

SMALL = SwinConfig(
    image_size=32, patch_size=2, embed_dim=8, depths=(2, 3), num_heads=(1, 2), window_size=4, labels=("a", "b", "c")
)
COUNTS = {"tiny": 28_288_354, "small": 49_606_258, "base": 87_768_224, "base_384": 87_903_584, "large": 196_532_476}


def images(height: int = 32, width: int = 32, batch: int = 3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, height, width, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables():
    """Parameters far from where they begin."""
    model = SwinForImageClassification(SMALL)
    found = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(found)))
    noise = jax.tree.unflatten(jax.tree.structure(found), list(keys))
    return jax.tree.map(lambda x, key: x + 0.1 * jax.random.normal(key, x.shape), found, noise)


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    model = SwinForImageClassification(SwinConfig.variant(variant, scan_layers=True))
    assert sum(leaf.size for leaf in jax.tree.leaves(hub.variable_shapes(model))) == COUNTS[variant]


@pytest.mark.parametrize("variant", SwinConfig.variants)
def test_a_published_config_says_all(variant):
    config = SwinConfig.variant(variant, labels=("no", "yes"), out_features=("stage1", "stage4"))
    assert SwinConfig.from_json(config.to_json()) == config


@pytest.mark.slow_but_first
@pytest.mark.parametrize("changes", [{"scan_layers": True}, {"remat": "full", "scan_layers": True}])
def test_how_it_runs_changes_no_number(changes, variables):
    def run(config):
        model = SwinForImageClassification(config)
        keys = jax.random.split(jax.random.key(3), 3)

        def loss(params):
            logits = model.apply({"params": params}, images(30, 38), dropout_keys=keys).logits
            return jnp.sin(logits).sum(), logits

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    dropping = dict(drop_path_rate=0.3, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    config = dataclasses.replace(SMALL, **dropping)
    expected, found = run(config), run(dataclasses.replace(config, **changes))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_what_a_place_sees(variables):
    """Before a stage's second block no more than its window of 4 × 4; shifted windows do not join what was far apart."""
    config = dataclasses.replace(SMALL, depths=(2,), num_heads=(1,))
    params = {name: x for name, x in variables["params"]["swin"].items() if "stage_1" not in name and name != "norm"}
    params = {name: x for name, x in params.items() if "merging" not in name}
    params["norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    model = SwinModel(config, backbone=True)

    def seen(place):
        def of(pixels):
            return model.apply({"params": params}, pixels)["stage1"][0, place[0], place[1]].sum()

        moved = jnp.abs(jax.jit(jax.grad(of))(images(batch=1)))[0].sum(axis=-1)
        return moved.reshape(16, 2, 16, 2).sum(axis=(1, 3)) > 0

    corner, middle = seen((0, 0)), seen((8, 8))
    assert corner[:4, :4].all() and not corner[4:].any() and not corner[:, 4:].any()
    # The window of (8, 8) begins at (6, 6); each of its places saw a window that begins at a multiple of 4.
    assert middle[4:12, 4:12].all() and middle.sum() == 64


def test_biases_are_looked_up_by_distance():
    """Row (Δy + 3) · 7 + Δx + 3 for windows of 4; of smaller windows the same rows."""
    for window in (4, 3):
        found = relative_places(window, 4)
        for query in range(window**2):
            for key in range(window**2):
                down, right = query // window - key // window, query % window - key % window
                assert found[query, key] == (down + 3) * 7 + right + 3


def test_places_are_merged_by_columns():
    """Upper left, lower left, upper right, lower right."""
    config = dataclasses.replace(SMALL, embed_dim=1, num_heads=(1, 1))
    merging, x = SwinMerging(config), jnp.arange(4.0).reshape(1, 2, 2, 1)
    params = {
        "norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
        "reduction": {"kernel": jnp.eye(4)[:, :2]},
    }
    found = merging.apply({"params": params}, x)[0, 0, 0]
    normed = (np.arange(4) - 1.5) / np.sqrt(1.25 + 1e-5)
    np.testing.assert_allclose(found, normed[[0, 2]], rtol=1e-5)


def test_drop_path_skips_both_branches_of_the_last_block(variables):
    config = dataclasses.replace(SMALL, depths=(1, 1), num_heads=(1, 2), drop_path_rate=1.0 - 1e-6)
    names = {"stage_1_last": "stage_1_last"}
    params = variables["params"]["swin"]
    first = jax.tree.map(lambda x: x[0], params["stage_0_pairs"]["regular"])
    kept = {name: x for name, x in params.items() if "pairs" not in name and name not in names}
    model = SwinModel(config, backbone=True)
    params = {**kept, "stage_0_last": first, "stage_1_last": params["stage_1_last"]}
    keys = jax.random.split(jax.random.key(0), 3)
    apply = jax.jit(lambda params: model.apply({"params": params}, images(), dropout_keys=keys)["stage2"])
    moved = jax.tree.map(lambda x: x + 1.0, params["stage_1_last"])
    np.testing.assert_array_equal(apply(params), apply({**params, "stage_1_last": moved}))


def test_a_backbone_knows_its_maps():
    config = dataclasses.replace(SMALL, out_features=("stem", "stage2"))
    backbone = SwinBackbone(config)
    assert (backbone.channels, backbone.strides) == ((8, 16), (2, 4))
    shapes = jax.eval_shape(lambda: backbone.init_with_output(jax.random.key(0), images(17, 32))[0])
    assert [x.shape for x in shapes.feature_maps] == [(3, 9, 16, 8), (3, 5, 8, 16)]


def test_depth_for_layer_rates_counts_blocks():
    model = SwinForImageClassification(SMALL)
    depth = {
        "swin/patches/kernel": 0,
        "swin/stage_0_pairs/regular/up/kernel": (1,),
        "swin/stage_0_pairs/shifted/up/kernel": (2,),
        "swin/stage_0_merging/norm/scale": 2,
        "swin/stage_1_pairs/shifted/up/kernel": (4,),
        "swin/stage_1_last/up/kernel": 5,
        "swin/norm/scale": 6,
        "classifier/kernel": 6,
    }
    assert {path: model.depth(path) for path in depth} == depth
    assert depth.keys() <= hub.shapes_of(model).keys()


def test_absolute_positions_are_resized():
    config = dataclasses.replace(SMALL, use_absolute_embeddings=True)
    model = SwinModel(config)
    variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    with pytest.raises(ModelError, match="absolute positions for 16 × 16"):
        jax.eval_shape(model.apply, variables, images(40, 32))
    larger, resized = model.at_image_size(variables, (40, 32))
    assert resized["params"]["position_embeddings"].shape == (1, 20 * 16, 8)
    jax.eval_shape(larger.apply, resized, images(40, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_heads=(1,)), "as many of each"),
        (dict(num_heads=(3, 2)), "3 does not divide 8"),
        (dict(out_features=("stage9",)), "stage9"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)
