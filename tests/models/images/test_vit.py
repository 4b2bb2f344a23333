"""ViT held against what must be true of it, without a reference implementation."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.stats import binom, truncnorm

from models import vit
from models.config import ModelError
from models.layers.positions import resize_matrix
from models.vit import ViTConfig
from training.step import forward

SMALL = ViTConfig(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=32,
    patch_size=8,
    encoder_stride=8,
    initializer_range=0.2,
    labels=("a", "b", "c"),
)
HEADS = ["ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"]


@functools.cache
def initialized(model: nn.Module) -> dict:
    return nn.unbox(jax.jit(model.init)(jax.random.key(0), **model.blank()))


def variables_of(model: nn.Module) -> dict:
    """In dictionaries that may be changed."""
    return jax.tree.map(lambda x: x, initialized(model))


def images(count: int = 4, height: int = 32, width: int = 32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, height, width, 3)), jnp.float32)


def masks(count: int = 4, patches: int = 16) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).random((count, patches)) < 0.5)


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def count_of(model: nn.Module) -> int:
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("variant", "headless", "classifier"),
    [
        ("tiny", 5_524_416, 5_717_416),
        ("small", 21_665_664, 22_050_664),
        ("base", 85_798_656, 86_567_656),
        ("base_32", 87_455_232, 88_224_232),
        ("large", 303_301_632, 304_326_632),
        ("large_32", 305_510_400, 306_535_400),
        ("huge_14", 630_764_800, 632_045_800),
    ],
)
def test_parameter_counts_of_the_published_variants(variant, headless, classifier):
    config = ViTConfig.variant(variant)
    assert count_of(vit.ViTModel(config, add_pooling_layer=False)) == headless
    assert count_of(vit.ViTForImageClassification(config)) == classifier


@pytest.mark.parametrize(
    ("head", "variant", "changes", "count"),
    [
        ("ViTModel", "base", {}, 86_389_248),
        ("ViTModel", "large", {}, 304_351_232),
        ("ViTModel", "huge_14", {}, 632_404_480),
        ("ViTForImageClassification", "base", {"labels": tuple(map(str, range(21_843)))}, 102_595_923),
        ("ViTForImageClassification", "base", {"image_size": 384}, 86_859_496),
        ("ViTForImageClassification", "large", {"image_size": 384}, 304_715_752),
        ("ViTForImageClassification", "base", {"image_size": 512}, 87_203_560),
        ("ViTForImageClassification", "large", {"image_size": 512}, 305_174_504),
        ("ViTForImageClassification", "huge_14", {"image_size": 518}, 633_470_440),
        ("ViTForMaskedImageModeling", "base", {}, 86_390_016),
    ],
)
def test_parameter_counts_with_other_heads_and_sizes(head, variant, changes, count):
    assert count_of(getattr(vit, head)(ViTConfig.variant(variant, **changes))) == count


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_has_logical_axes_for_all_its_dimensions(head):
    model = getattr(vit, head)(SMALL)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


def test_initial_values():
    """N(0, σ²) cut at ±2σ for weights, [CLS] and positions; 0 for biases and the mask token, 1 for the scales of norms."""
    flat = flatten_dict(variables_of(vit.ViTForMaskedImageModeling(SMALL))["params"], sep="/")
    for path, value in flat.items():
        if path.endswith(("bias", "mask_token")):
            assert not value.any(), path
        elif path.endswith("scale"):
            assert (value == 1).all(), path
        else:
            assert 0 < np.abs(value).max() <= 2 * SMALL.initializer_range, path
            assert abs(np.std(value) / (truncnorm(-2, 2).std() * SMALL.initializer_range) - 1) < 0.2, path


def test_patches_are_read_row_by_row_behind_cls():
    """Without layers' doing: the embeddings of an image that is white in one patch differ from a black one's there alone."""
    model = vit.ViTModel(dataclasses.replace(SMALL, image_size=(24, 40)))
    variables = variables_of(model)

    def embedded(pixels):
        return model.apply(variables, pixels, output_hidden_states=True).hidden_states[0, 0]

    black = jnp.zeros((1, 24, 40, 3))
    changed = np.abs(embedded(black.at[:, 8:16, 24:32].set(1.0)) - embedded(black)).max(axis=-1) > 0
    assert np.flatnonzero(changed).tolist() == [1 + 5 + 3]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 40)])
@pytest.mark.parametrize("head", HEADS)
def test_our_flops_are_xlas_within_three_percent(head, height, width):
    model = getattr(vit, head)(ViTConfig.tiny(image_size=(4 * height, 4 * width), num_hidden_layers=4))
    shapes = {"pixel_values": (2, 4 * height, 4 * width, 3)}
    if head == "ViTForMaskedImageModeling":
        shapes["bool_masked_pos"] = (2, height * width // 16)
    inputs = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    if "bool_masked_pos" in inputs:
        inputs["bool_masked_pos"] = jax.ShapeDtypeStruct(shapes["bool_masked_pos"], jnp.bool_)

    def run(variables, inputs):
        outputs = model.apply(variables, **inputs)
        return outputs[next(iter(outputs))]

    variables = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))
    lowered = jax.jit(run).lower(variables, inputs)
    assert 0.97 < model.forward_flops(shapes) / lowered.cost_analysis()["flops"] < 1.0


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def outputs_and_gradients(**settings):
    model = vit.ViTForMaskedImageModeling(
        dataclasses.replace(
            SMALL, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, drop_path_rate=0.4, **settings
        )
    )

    def loss(params):
        outputs = model.apply(
            {"params": params},
            images(),
            masks(),
            dropout_keys=jax.random.split(jax.random.key(5), 4),
            output_hidden_states=True,
            output_attentions=True,
        )
        return jnp.sin(outputs.reconstruction).sum() / 20, outputs

    params = variables_of(vit.ViTForMaskedImageModeling(SMALL))["params"]
    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return flatten_dict({"outputs": dict(outputs), "gradients": gradients}, sep="/")


@pytest.fixture(scope="module")
def plain():
    return outputs_and_gradients()


@pytest.mark.parametrize(("remat", "scan_layers"), [("none", True), ("dots", False), ("full", True)])
def test_scan_and_remat_change_no_number(plain, remat, scan_layers):
    found = outputs_and_gradients(scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain)
    for name, value in found.items():
        scale = max(1.0, float(np.abs(plain[name]).max()))
        np.testing.assert_allclose(value, plain[name], rtol=0, atol=3e-6 * scale, err_msg=name)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("head", HEADS)
def test_bfloat16_compute_is_close_and_gradients_are_in_the_parameters_dtype(head):
    exact = getattr(vit, head)(SMALL)
    rounded = getattr(vit, head)(dataclasses.replace(SMALL, dtype="bfloat16"))
    variables = variables_of(exact)
    gradients = jax.grad(lambda v: rounded.apply(v, images()).last_hidden_state.astype(jnp.float32).sum())(variables)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradients)} == {"float32"}
    found, expected = rounded.apply(variables, images()), exact.apply(variables, images())
    for name in expected:
        assert found[name].dtype == jnp.bfloat16
        error = np.abs(np.asarray(found[name], np.float32) - expected[name]).max() / np.abs(expected[name]).max()
        assert 0 < error < 0.05, name


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("only", ["hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"])
def test_each_dropout_acts_and_only_with_keys_that_go_with_the_example(only):
    still = vit.ViTForImageClassification(SMALL)
    noisy = vit.ViTForImageClassification(dataclasses.replace(SMALL, **{only: 0.5}))
    variables, keys = variables_of(still), jax.random.split(jax.random.key(1), 4)
    expected = still.apply(variables, images()).logits
    np.testing.assert_array_equal(noisy.apply(variables, images()).logits, expected)
    np.testing.assert_array_equal(still.apply(variables, images(), dropout_keys=keys).logits, expected)
    dropped = noisy.apply(variables, images(), dropout_keys=keys).logits
    assert np.abs(dropped - expected).max() > 1e-3
    order = np.array([2, 0, 3, 1])
    permuted = noisy.apply(variables, images()[order], dropout_keys=keys[order]).logits
    np.testing.assert_allclose(permuted, dropped[order], rtol=0, atol=1e-5)


def test_layers_are_skipped_more_often_the_deeper_they_are():
    """Both branches of each, apart; an example's layer is whole or not there, and what is there is scaled up."""
    config = dataclasses.replace(SMALL, drop_path_rate=0.6)
    model, layer = vit.ViTModel(config), vit.ViTLayer(config)
    count = 400
    hidden = jnp.tile(images(1, 5, 32)[0, None, :, :, 0], (count, 1, 1))
    params = jax.tree.map(lambda x: x[0], variables_of(model)["params"]["layers"])
    params["down"] = jax.tree.map(jnp.zeros_like, params["down"])  # attention alone, then the MLP alone
    keys = jax.random.split(jax.random.key(0), count)
    whole = layer.apply({"params": params}, hidden[:1], jnp.array(0), (None, None))[0] - hidden[:1]
    skips = []
    for index, rate in enumerate((0.0, 0.3, 0.6)):
        added = np.asarray(layer.apply({"params": params}, hidden, jnp.array(index), (None, keys))[0] - hidden)
        skipped = np.abs(added).max(axis=(1, 2)) == 0
        low, high = binom.interval(1 - 1e-6, count, rate)
        assert low <= skipped.sum() <= high
        np.testing.assert_allclose(
            added[~skipped], np.broadcast_to(whole / (1 - rate), added[~skipped].shape), atol=1e-5
        )
        skips.append(skipped)
    params = jax.tree.map(lambda x: x[0], variables_of(model)["params"]["layers"])
    params["attention"]["out"] = jax.tree.map(jnp.zeros_like, params["attention"]["out"])
    added = layer.apply({"params": params}, hidden, jnp.array(2), (None, keys))[0] - hidden
    other = np.abs(np.asarray(added)).max(axis=(1, 2)) == 0
    low, high = binom.interval(1 - 1e-6, count, 0.6 * 0.6)
    assert low <= (other & skips[2]).sum() <= high


# ── Positions ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("head", HEADS)
def test_a_model_for_another_size_has_the_resized_positions_and_all_else_as_it_was(head):
    model = getattr(vit, head)(SMALL)
    variables = variables_of(model)
    larger, resized = model.at_image_size(variables, (48, 40))
    assert type(larger) is type(model) and larger.config == dataclasses.replace(SMALL, image_size=(48, 40))
    assert jax.tree.map(jnp.shape, resized) == jax.tree.map(jnp.shape, variables_of(larger))
    kept = [
        path
        for path, value in flatten_dict(variables, sep="/").items()
        if np.array_equal(value, flatten_dict(resized, sep="/")[path])
    ]
    assert len(kept) == len(jax.tree.leaves(variables)) - 1
    pixels = images(height=48, width=40)
    expected = model.apply(variables, pixels, interpolate_pos_encoding=True)
    found = larger.apply(resized, pixels)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    other = larger.apply(model.at_image_size(variables, (48, 40), "bilinear")[1], pixels)
    assert np.abs(other.last_hidden_state - found.last_hidden_state).max() > 1e-3


# ── Masked images ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hidden_patches_are_not_seen():
    model = vit.ViTForMaskedImageModeling(SMALL)
    variables = variables_of(model)
    hidden = masks().reshape(4, 4, 4).repeat(8, axis=1).repeat(8, axis=2)[..., None]
    others = jnp.where(hidden, images(seed=2), images())
    one, two = (model.apply(variables, pixels, masks()).reconstruction for pixels in (images(), others))
    np.testing.assert_array_equal(one, two)
    assert np.abs(model.apply(variables, others).reconstruction - two).max() > 1e-2


def test_a_reconstruction_lies_where_its_patch_does():
    """The pixels of a patch come from its own hidden vector: found by a decoder that copies the vector's first features."""
    model = vit.ViTForMaskedImageModeling(dataclasses.replace(SMALL, image_size=(24, 40)))
    variables = variables_of(model)
    variables["params"]["decoder"]["kernel"] = jnp.eye(32, 8 * 8 * 3)
    outputs = model.apply(variables, images(height=24, width=40))
    assert outputs.reconstruction.shape == (4, 24, 40, 3)
    first_rows = outputs.reconstruction[:, 8:12, 24:32, 0].reshape(4, 32)  # the patch in row 1, column 3
    np.testing.assert_allclose(first_rows, outputs.last_hidden_state[:, 1 + 5 + 3], atol=1e-6)


def test_a_model_is_handed_the_mask_by_its_name():
    model = vit.ViTForMaskedImageModeling(SMALL)
    variables = variables_of(model)
    batch = {"pixel_values": images(), "bool_masked_pos": masks(), "labels": jnp.zeros(4)}
    found = forward(model, variables, batch).reconstruction
    np.testing.assert_array_equal(found, model.apply(variables, images(), masks()).reconstruction)


# ── Config, and what cannot be ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variant", ViTConfig.variants)
def test_config_to_json_and_back(variant):
    config = ViTConfig.variant(variant, labels=("no", "perhaps", "yes"), image_size=(384, 256), pooler_output_size=7)
    published = json.loads(json.dumps(config.to_json()))
    assert not set(published) & set(ViTConfig.execution)
    assert ViTConfig.from_json(published) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "hidden_size=30 does not divide into num_attention_heads=4"),
        ({"hidden_act": "gelo"}, "unknown activation 'gelo': did you mean 'gelu'"),
        ({"pooler_act": "tan"}, "unknown activation 'tan': did you mean 'tanh'"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0: expected a number below 1"),
        ({"image_size": 7}, "image_size=7 is smaller than patch_size=8"),
        ({"image_size": (32, 0)}, "image_size=0: expected a whole number of at least 1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("head", "settings", "inputs", "message"),
    [
        (
            "ViTModel",
            {},
            {"pixel_values": images(height=40)},
            "40×32 pixels do not fit a model with image_size=32: int",
        ),
        ("ViTModel", {}, {"pixel_values": images()[..., :1]}, "images of 1 channels do not fit.* num_channels=3"),
        (
            "ViTModel",
            {},
            {"pixel_values": images(width=7), "interpolate_pos_encoding": True},
            "32×7 pixels are smaller than patch_size=8",
        ),
        ("ViTModel", {}, {"pixel_values": images(), "bool_masked_pos": masks()}, "to a model without a mask token"),
        (
            "ViTForMaskedImageModeling",
            {},
            {"pixel_values": images(), "bool_masked_pos": masks(patches=9)},
            r"bool_masked_pos of shape \(4, 9\) for \(4, 16\) images and patches",
        ),
        (
            "ViTForMaskedImageModeling",
            {"encoder_stride": 16},
            {"pixel_values": images(), "bool_masked_pos": masks()},
            "patch_size=8 and encoder_stride=16: masked patches want both",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(head, settings, inputs, message):
    model = getattr(vit, head)(dataclasses.replace(SMALL, **settings))
    with pytest.raises(ModelError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs))


def test_positions_are_resized_in_known_ways_alone():
    with pytest.raises(ModelError, match="unknown method 'bicubik': did you mean 'bicubic'"):
        resize_matrix(4, 7, "bicubik")
