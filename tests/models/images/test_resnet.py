"""ResNet held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
