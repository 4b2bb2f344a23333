"""ConvNeXt held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.config import ModelError
from models.convnext import ConvNextConfig, ConvNextForImageClassification, ConvNextModel

SMALL = ConvNextConfig(
    hidden_sizes=(8, 12), depths=(2, 3), num_stages=2, image_size=24, labels=("a", "b", "c"), layer_scale_init_value=0.5
)
COUNTS = {
    "tiny": (27_820_128, 28_589_128, 44_615_857),
    "small": (49_454_688, 50_223_688, 66_250_417),
    "base": (87_566_464, 88_591_464, 109_953_489),
    "large": (196_230_336, 197_767_336, 229_799_953),
    "xlarge": (348_147_968, 350_196_968, 392_900_177),
}


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), **model.blank()))


def images(batch: int = 4) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, 24, 20, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables():
    """Parameters far from where they begin: random layer scales and biases too."""
    found = jax.jit(lambda: variables_of(ConvNextForImageClassification(SMALL)))()
    keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(found)))
    noise = jax.tree.unflatten(jax.tree.structure(found), list(keys))
    return jax.tree.map(lambda x, key: x + 0.1 * jax.random.normal(key, x.shape), found, noise)


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    def count(kind, **changes):
        model = kind(ConvNextConfig.variant(variant, scan_layers=True, **changes))
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: variables_of(model))))

    many = tuple(map(str, range(21_841)))
    found = (
        count(ConvNextModel),
        count(ConvNextForImageClassification),
        count(ConvNextForImageClassification, labels=many),
    )
    assert found == COUNTS[variant]


def test_our_flops_are_xlas_within_five_percent():
    """XLA counts the program as lowered: norms and activations are in it, too."""
    model = ConvNextForImageClassification(ConvNextConfig.base(depths=(1, 1, 2, 1)))
    shapes, shape = jax.eval_shape(lambda: variables_of(model)), (2, 224, 192, 3)
    lowered = jax.jit(lambda v, x: model.apply(v, x).logits).lower(shapes, jax.ShapeDtypeStruct(shape, jnp.float32))
    counted = lowered.cost_analysis()["flops"]
    assert 0.95 < model.forward_flops({"pixel_values": shape}) / counted < 1.0


@pytest.mark.slow_but_first
@pytest.mark.parametrize("changes", [{"scan_layers": True}, {"remat": "full"}, {"remat": "dots", "scan_layers": True}])
def test_how_it_runs_changes_no_number(changes, variables):
    def run(config):
        model = ConvNextForImageClassification(config)
        keys = jax.random.split(jax.random.key(3), 4)

        def loss(params):
            logits = model.apply({"params": params}, images(), dropout_keys=keys).logits
            return jnp.sin(logits).sum(), logits

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    config = dataclasses.replace(SMALL, drop_path_rate=0.3)
    expected, found = run(config), run(dataclasses.replace(config, **changes))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_blocks_are_skipped_more_often_the_later_they_come(variables):
    """With one block that does anything, an example changes as often as its rate says."""
    config, batch = dataclasses.replace(SMALL, depths=(2, 3), drop_path_rate=0.8), 400
    model, pixels = ConvNextModel(config), jnp.tile(images(1), (batch, 1, 1, 1))
    keys = jax.random.split(jax.random.key(2), batch)
    apply = jax.jit(lambda params, keys: model.apply({"params": params}, pixels, dropout_keys=keys).last_hidden_state)
    for number, (stage, block) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]):
        params = jax.tree.map(lambda x: x, variables["params"]["convnext"])
        for which in (0, 1):
            scale = params[f"stage_{which}"]["layer_scale"]
            only = (jnp.arange(len(scale)) == block) & (which == stage)
            params[f"stage_{which}"]["layer_scale"] = scale * only[:, None]
        alive = apply(params, keys)
        idle = jax.tree.map(lambda x: x, params)
        idle[f"stage_{stage}"]["layer_scale"] = jnp.zeros_like(params[f"stage_{stage}"]["layer_scale"])
        skipped = np.mean(np.abs(alive - apply(idle, keys)).max(axis=(1, 2, 3)) == 0)
        rate = 0.8 * number / 4
        assert abs(skipped - rate) <= 4 * np.sqrt(rate * (1 - rate) / batch), (stage, block, skipped)


def test_bfloat16_is_near(variables):
    wide = jax.jit(ConvNextForImageClassification(SMALL).apply)(variables, images()).logits
    narrow = ConvNextForImageClassification(dataclasses.replace(SMALL, dtype="bfloat16"))
    found = jax.jit(narrow.apply)(variables, images()).logits
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), wide, atol=0.1)


def test_the_classifier_begins_as_small_as_fine_tuning_wants_it():
    def classifier(**changes):
        model = ConvNextForImageClassification(dataclasses.replace(SMALL, **changes))
        return jax.jit(lambda: variables_of(model))()["params"]["classifier"]["kernel"]

    np.testing.assert_allclose(classifier(head_init_scale=0.001), 0.001 * classifier(), rtol=1e-5)
    assert "head_init_scale" not in SMALL.to_json()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depths": (1, 2, 3)}, "expected num_stages=2 of each"),
        ({"num_stages": 3}, "expected num_stages=3 of each"),
        ({"hidden_act": "glu"}, "unknown activation"),
        ({"drop_path_rate": -0.1}, "drop_path_rate=-0.1"),
    ],
)
def test_impossible_shapes_are_refused(changes, said):
    with pytest.raises(ModelError, match=said):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 24, 24, 1), "num_channels=3"), ((1, 24, 7, 3), "24 × 7 pixels is too small")]
)
def test_images_that_do_not_fit_are_refused(shape, said):
    model = ConvNextModel(SMALL)
    with pytest.raises(ModelError, match=said):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape)))
