"""ResNet held against what must be true of it, without a reference implementation."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.backbone import read_backbone_config
from models.config import ModelError
from models.resnet import ResNetConfig, ResNetForImageClassification, ResNetModel

SMALL = ResNetConfig(embedding_size=8, hidden_sizes=(16, 24), depths=(3, 2), labels=("a", "b", "c"))
COUNTS = {
    "resnet18": (11_176_512, 11_689_512, 9_600),
    "resnet34": (21_284_672, 21_797_672, 17_024),
    "resnet50": (23_508_032, 25_557_032, 53_120),
    "resnet101": (42_500_160, 44_549_160, 105_344),
    "resnet152": (58_143_808, 60_192_808, 151_424),
}
"""Parameters without and with the head, and running statistics, counted in the models of `transformers`."""


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), **model.blank()))


def images(batch: int = 4) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, 40, 33, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: variables_of(ResNetForImageClassification(SMALL)))()


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    config = ResNetConfig.variant(variant, scan_layers=True)

    def sizes(kind):
        shapes = jax.eval_shape(lambda: variables_of(kind(config)))
        return [sum(leaf.size for leaf in jax.tree.leaves(shapes[name])) for name in ("params", "batch_stats")]

    (bare, statistics), (whole, same) = sizes(ResNetModel), sizes(ResNetForImageClassification)
    assert (bare, whole, statistics, same) == (*COUNTS[variant], COUNTS[variant][2])


@pytest.mark.parametrize(
    "config",
    [
        ResNetConfig.resnet50(depths=(2, 1, 1, 2)),
        ResNetConfig.resnet18(),
        ResNetConfig.resnet50(depths=(1, 2, 1, 1), downsample_in_bottleneck=True, downsample_in_first_stage=True),
    ],
    ids=["bottleneck", "basic", "2015"],
)
def test_our_flops_are_xlas_within_five_percent(config):
    """XLA counts the program as lowered: batch norms are in it, too, and no multiplication by a zero of the padding."""
    model, shape = ResNetForImageClassification(config), (2, 448, 416, 3)
    shapes = jax.eval_shape(lambda: variables_of(model))
    lowered = jax.jit(lambda v, x: model.apply(v, x).logits).lower(shapes, jax.ShapeDtypeStruct(shape, jnp.float32))
    counted = lowered.cost_analysis()["flops"]
    assert 0.95 < model.forward_flops({"pixel_values": shape}) / counted < 1.05


@pytest.mark.slow_but_first
@pytest.mark.parametrize("changes", [{"scan_layers": True}, {"remat": "full"}, {"remat": "dots", "scan_layers": True}])
def test_how_it_runs_changes_no_number(changes, variables):
    def run(config):
        model = ResNetForImageClassification(config)

        def loss(params):
            inputs = dict(batch_axes=(), mutable=["batch_stats"])
            outputs, moved = model.apply({**variables, "params": params}, images(), **inputs)
            return jnp.sin(outputs.logits).sum(), (outputs.logits, moved)

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    expected, found = run(SMALL), run(dataclasses.replace(SMALL, **changes))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * float(jnp.abs(one).max()))


def test_the_statistics_of_a_batch_are_used_in_training_alone(variables):
    model = ResNetForImageClassification(SMALL)
    apply = jax.jit(
        lambda axes: model.apply(variables, images(), batch_axes=axes, mutable=["batch_stats"]), static_argnums=0
    )
    (evaluated, kept), (trained, moved) = apply(None), apply(())
    assert float(jnp.abs(evaluated.logits - trained.logits).max()) > 1e-3
    assert all(map(np.array_equal, jax.tree.leaves(kept), jax.tree.leaves(variables["batch_stats"])))
    assert not any(map(np.array_equal, jax.tree.leaves(moved), jax.tree.leaves(variables["batch_stats"])))

    frozen = ResNetForImageClassification(dataclasses.replace(SMALL, freeze_batch_norm=True))
    found, kept = jax.jit(lambda: frozen.apply(variables, images(), batch_axes=(), mutable=["batch_stats"]))()
    np.testing.assert_allclose(found.logits, evaluated.logits, atol=1e-6)
    assert all(map(np.array_equal, jax.tree.leaves(kept), jax.tree.leaves(variables["batch_stats"])))
    assert "freeze_batch_norm" not in SMALL.to_json()


def test_bfloat16_is_near(variables):
    wide = jax.jit(ResNetForImageClassification(SMALL).apply)(variables, images()).logits
    narrow = ResNetForImageClassification(dataclasses.replace(SMALL, dtype="bfloat16"))
    found = jax.jit(narrow.apply)(variables, images()).logits
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), wide, atol=0.1 * float(jnp.abs(wide).max()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depths": (1, 2, 3)}, "expected as many of each"),
        ({"layer_type": "wide"}, "expected basic or bottleneck"),
        ({"hidden_act": "glu"}, "unknown activation"),
    ],
)
def test_impossible_shapes_are_refused(changes, said):
    with pytest.raises(ModelError, match=said):
        dataclasses.replace(SMALL, **changes)


def test_images_that_do_not_fit_are_refused():
    model = ResNetModel(SMALL)
    with pytest.raises(ModelError, match="num_channels=3"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 24, 24, 1))))


@pytest.mark.slow
def test_a_backbone_gives_the_feature_maps_that_its_config_names():
    config = dataclasses.replace(SMALL, depths=(3, 2, 2), hidden_sizes=(16, 24, 32), out_features=("stem", "stage3"))
    backbone = config.backbone()
    variables = jax.jit(lambda: variables_of(backbone))()
    found = backbone.apply(variables, images()[:1], output_hidden_states=True)
    assert (backbone.channels, backbone.strides) == ((8, 32), (4, 16))
    assert [x.shape for x in found.feature_maps] == [(1, 10, 9, 8), (1, 3, 3, 32)]
    states = ResNetModel(config).apply(variables, images()[:1], output_hidden_states=True).hidden_states
    for one, other in zip((states[0], states[3]), found.feature_maps, strict=True):
        np.testing.assert_array_equal(one, other)
    assert ResNetConfig().backbone().channels == (2_048,) and ResNetConfig().backbone().strides == (32,)


def test_a_dilated_stage_sees_what_it_saw_at_every_place():
    """At every second place it is the stage that halves the resolution: its layers see the same pixels with the same kernels."""
    config = dataclasses.replace(SMALL, depths=(2, 3), out_features=("stage1", "stage2"))
    plain, dilated = config.backbone(), config.backbone(dilated=True)
    variables = jax.jit(lambda: variables_of(plain))()
    (first, last), (same, wide) = (model.apply(variables, images()).feature_maps for model in (plain, dilated))
    assert dilated.strides == (4, 4) and wide.shape[1:3] == first.shape[1:3]
    np.testing.assert_array_equal(first, same)
    np.testing.assert_allclose(wide[:, ::2, ::2], last, atol=1e-5 * float(jnp.abs(last).max()))


def test_a_backbone_is_read_from_the_config_of_the_model_on_it():
    config = ResNetConfig.resnet18(out_features=("stage2", "stage4"))
    assert read_backbone_config(json.loads(json.dumps(config.to_json()))) == config
    counted = {**config.to_json(), "out_features": None, "out_indices": [2, -1]}
    assert read_backbone_config(counted) == config
    timm = {"model_type": "timm_backbone", "backbone": "resnet101", "out_indices": [1, 2, 3, 4]}
    assert read_backbone_config(timm) == ResNetConfig.resnet101(out_features=ResNetConfig().stage_names[1:])


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ({"model_type": "resnet", "out_features": ["stage5"]}, "expected some of stem, stage1"),
        ({"model_type": "resnet", "out_features": ["stage2", "stage1"]}, "in this order"),
        ({"model_type": "resnet", "out_features": []}, "out_features is empty"),
        ({"model_type": "resnet", "out_indices": [5]}, "out_indices="),
        ({"model_type": "bert"}, "backbone_config: model_type='bert'"),
        ({"model_type": "timm_backbone", "backbone": "mobilenet"}, "backbone='mobilenet' of timm"),
    ],
)
def test_what_is_no_backbone_is_refused(published, said):
    with pytest.raises(ModelError, match=said):
        read_backbone_config(published)
