"""The Mix Transformer held against what must be true of it, without a reference implementation."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models.config import ModelError
from models.segformer import SegformerConfig, SegformerForImageClassification, SegformerModel

SMALL = SegformerConfig(
    hidden_sizes=(8, 12, 16, 20), num_attention_heads=(1, 2, 4, 5), depths=(1, 2, 1, 1), labels=("a", "b", "c")
)
MODEL = SegformerForImageClassification(SMALL)
BATCH = 3
COUNTS = {
    "b0": (3_319_392, 3_576_392),
    "b1": (13_151_424, 13_664_424),
    "b2": (24_196_288, 24_709_288),
    "b3": (44_072_128, 44_585_128),
    "b4": (60_842_688, 61_355_688),
    "b5": (81_443_008, 81_956_008),
}
"""Parameters without and with a head over 1,000 classes, counted in the models of `transformers`."""


def images(batch: int = BATCH, height: int = 37, width: int = 66) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, height, width, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: nn.unbox(MODEL.init(jax.random.key(0), **MODEL.blank())))()


def count(model: nn.Module) -> int:
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    config = SegformerConfig.variant(variant, scan_layers=True)
    assert (count(SegformerModel(config)), count(SegformerForImageClassification(config))) == COUNTS[variant]


@pytest.mark.parametrize("variant", SegformerConfig.variants)
def test_config_to_json_and_back(variant):
    config = SegformerConfig.variant(variant, labels=("no", "perhaps", "yes"))
    assert SegformerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.slow
def test_stages_are_maps_of_a_quarter_and_then_a_half_each(variables):
    outputs = MODEL.apply(variables, images(), output_hidden_states=True)
    shapes = [x.shape for x in outputs.hidden_states]
    assert shapes == [(BATCH, 10, 17, 8), (BATCH, 5, 9, 12), (BATCH, 3, 5, 16), (BATCH, 2, 3, 20)]
    assert SMALL.grids(37, 66) == tuple(shape[1:3] for shape in shapes)
    np.testing.assert_array_equal(outputs.last_hidden_state, outputs.hidden_states[-1])
    tokens = type(MODEL)(dataclasses.replace(SMALL, reshape_last_stage=False)).apply(variables, images())
    np.testing.assert_array_equal(tokens.last_hidden_state, outputs.last_hidden_state.reshape(BATCH, 6, 20))
    np.testing.assert_allclose(tokens.logits, outputs.logits, atol=1e-6)


@pytest.mark.slow
def test_the_next_places_are_told_apart_only_by_the_convolutions(variables):
    """Of a picture of one colour all places far from the edges are equal: there are no positions."""
    outputs = MODEL.apply(variables, jnp.full((1, 256, 256, 3), 0.3), output_hidden_states=True)
    inner = np.asarray(outputs.hidden_states[0])[0, 8:-8, 8:-8].reshape(-1, 8)
    np.testing.assert_allclose(inner, inner[:1].repeat(len(inner), axis=0), atol=1e-4)


def trained(variables, **settings) -> dict[str, jax.Array]:
    """Outputs and gradients of a training pass with every kind of dropout."""
    rates = dict(drop_path_rate=0.4, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = type(MODEL)(dataclasses.replace(SMALL, **rates, **settings))
    keys = jax.random.split(jax.random.key(5), BATCH)

    def loss(params):
        outputs = model.apply({"params": params}, images(), dropout_keys=keys)
        return jnp.sin(outputs.logits).sum(), outputs.logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"logits": logits, "gradients": gradients}, sep="/")


@pytest.mark.slow
@pytest.mark.parametrize(("scan_layers", "remat"), [(True, "dots"), (False, "full")])
def test_scan_and_remat_change_no_number(variables, scan_layers, remat):
    plain, found = trained(variables), trained(variables, scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain)
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain[path]).max()))
        np.testing.assert_allclose(value, plain[path], rtol=0, atol=1e-5 * scale, err_msg=path)


@pytest.mark.slow
def test_dropout_is_that_of_each_example_and_only_with_keys(variables):
    model = type(MODEL)(dataclasses.replace(SMALL, drop_path_rate=0.5))
    keys = jax.random.split(jax.random.key(1), BATCH)
    still = MODEL.apply(variables, images()).logits
    np.testing.assert_array_equal(model.apply(variables, images()).logits, still)
    moving = model.apply(variables, images(), dropout_keys=keys).logits
    assert np.abs(moving - still).max() > 1e-4
    part = model.apply(variables, images()[1:], dropout_keys=keys[1:]).logits
    np.testing.assert_allclose(part, moving[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": (1, 5, 4, 5)}, "hidden_sizes=12 does not divide into num_attention_heads=5"),
        ({"depths": (1, 2)}, r"depths=\(1, 2\): expected one entry for each of num_encoder_blocks=4"),
        ({"num_encoder_blocks": 3}, "expected one entry for each of num_encoder_blocks=3"),
        ({"hidden_act": "gelo"}, "unknown activation 'gelo'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 32, 32, 1), "pixel_values has 1 channels, num_channels=3"),
        ((1, 28, 40, 3), r"an image of 28 × 40 is too small: stage 1 of it has 7 × 10 places.*sr_ratios"),
    ],
)
def test_images_of_another_shape_are_refused(variables, shape, message):
    with pytest.raises(ModelError, match=message):
        MODEL.apply(variables, jnp.zeros(shape))
