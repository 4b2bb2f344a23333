"""Masked autoencoders held against what must be true of them, without a reference implementation."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import vit_mae
from models.config import ModelError
from models.layers.axes import axes_of
from models.vit_mae import ViTMAEConfig, sinusoids
from training.optimizers import AdamW

SMALL = ViTMAEConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=(24, 40),
    patch_size=8,
    initializer_range=0.2,
    decoder_hidden_size=24,
    decoder_num_hidden_layers=2,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=40,
)
MODEL = vit_mae.ViTMAEForPreTraining(SMALL)
PATCHES, READ = 15, 3


@functools.cache
def variables() -> dict:
    return nn.unbox(jax.jit(MODEL.init)(jax.random.key(0), **MODEL.blank()))


def images(seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(4, 24, 40, 3)), jnp.float32)


def noise(seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).random((4, PATCHES)), jnp.float32)


@pytest.mark.parametrize(
    ("variant", "encoder", "both"),
    [
        ("base", 85_798_656, 111_907_840),
        ("large", 303_301_632, 329_541_888),
        ("huge_14", 630_764_800, 657_074_508),
    ],
)
def test_parameter_counts_of_the_published_variants(variant, encoder, both):
    """Fixed sinusoids counted."""
    config = ViTMAEConfig.variant(variant)
    for head, count in (("ViTMAEModel", encoder), ("ViTMAEForPreTraining", both)):
        model = getattr(vit_mae, head)(config)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_every_parameter_has_logical_axes_for_all_its_dimensions():
    boxed = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), **MODEL.blank()))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


@pytest.mark.parametrize("hidden", [True, False])
def test_our_flops_are_xlas_within_three_percent(hidden):
    model = vit_mae.ViTMAEForPreTraining(
        ViTMAEConfig.base(image_size=112, num_hidden_layers=2, decoder_num_hidden_layers=2)
    )
    shapes = {"pixel_values": (2, 112, 112, 3), **({"noise": (2, 49)} if hidden else {})}
    inputs = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    params = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))
    lowered = jax.jit(lambda v, inputs: model.apply(v, **inputs).logits).lower(params, inputs)
    assert 0.97 < model.forward_flops(shapes) / lowered.cost_analysis()["flops"] < 1.0


def test_patches_begin_as_a_linear_layer_does():
    """Glorot's bounds, of the pixels and numbers of a patch on the one side and the features on the other."""
    bound = np.sqrt(6 / (8 * 8 * 3 + 32))
    kernel = np.asarray(variables()["params"]["vit"]["patch_embeddings"]["kernel"])
    assert 0.98 * bound < np.abs(kernel).max() <= bound


def test_the_patches_with_the_most_noise_are_left_out_and_not_seen():
    outputs = MODEL.apply(variables(), images(), noise())
    assert outputs.last_hidden_state.shape == (4, 1 + READ, 32)
    assert outputs.logits.shape == (4, PATCHES, 8 * 8 * 3)
    ranks = np.argsort(np.argsort(noise(), axis=1), axis=1)
    np.testing.assert_array_equal(outputs.ids_restore, ranks)
    np.testing.assert_array_equal(outputs.mask, ranks >= READ)
    left_out = outputs.mask.reshape(4, 3, 5).repeat(8, axis=1).repeat(8, axis=2)[..., None] > 0
    others = jnp.where(left_out, images(1), images())
    np.testing.assert_array_equal(MODEL.apply(variables(), others, noise()).logits, outputs.logits)
    seen = jnp.where(left_out, images(), images(1))
    assert np.abs(MODEL.apply(variables(), seen, noise()).logits - outputs.logits).max() > 1e-2


def test_the_order_of_what_is_read_changes_nothing():
    """Noise that leaves out the same patches; the decoder puts each at its place again."""
    mask = MODEL.apply(variables(), images(), noise()).mask
    other = jnp.where(mask > 0, 1.0, 0.0) + noise(1) / 2
    one, two = (MODEL.apply(variables(), images(), x) for x in (noise(), other))
    np.testing.assert_array_equal(one.mask, two.mask)
    assert np.abs(one.last_hidden_state - two.last_hidden_state).max() > 1e-2
    np.testing.assert_allclose(one.logits, two.logits, atol=1e-5)


def test_without_noise_all_is_read_in_order():
    found = MODEL.apply(variables(), images())
    assert not found.mask.any()
    whole = vit_mae.ViTMAEForPreTraining(dataclasses.replace(SMALL, mask_ratio=0.0))
    in_order = jnp.tile(jnp.arange(float(PATCHES))[None], (4, 1))
    expected = whole.apply(variables(), images(), in_order)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize("settings", [{"scan_layers": True, "remat": "full"}, {"remat": "dots"}])
def test_scan_and_remat_change_no_number(settings):
    def gradients(config):
        model = vit_mae.ViTMAEForPreTraining(dataclasses.replace(config, hidden_dropout_prob=0.1))
        keys = jax.random.split(jax.random.key(5), 4)

        def loss(variables):
            return jnp.sin(model.apply(variables, images(), noise(), dropout_keys=keys).logits).sum() / 20

        return flatten_dict(jax.jit(jax.grad(loss))(variables()), sep="/")

    plain, found = gradients(SMALL), gradients(dataclasses.replace(SMALL, **settings))
    for name, value in found.items():
        scale = max(1.0, float(np.abs(plain[name]).max()))
        np.testing.assert_allclose(value, plain[name], rtol=0, atol=3e-6 * scale, err_msg=name)


def test_bfloat16_compute_is_close():
    rounded = vit_mae.ViTMAEForPreTraining(dataclasses.replace(SMALL, dtype="bfloat16"))
    found, exact = (model.apply(variables(), images(), noise()).logits for model in (rounded, MODEL))
    assert found.dtype == jnp.bfloat16
    assert 0 < np.abs(np.asarray(found, np.float32) - exact).max() / np.abs(exact).max() < 0.05


def test_training_changes_all_but_the_sinusoids():
    optimizer = AdamW(learning_rate=0.1, warmup_steps=1, weight_decay=0.1).build(
        10, axes=axes_of(MODEL.boxed_shapes()["params"])
    )
    params = variables()["params"]
    gradients = jax.jit(jax.grad(lambda p: jnp.sin(MODEL.apply({"params": p}, images(), noise()).logits).sum()))(params)
    updates, _ = jax.jit(optimizer.update)(gradients, jax.jit(optimizer.init)(params), params)
    still = [path for path, x in flatten_dict(updates, sep="/").items() if not x.any()]
    assert sorted(still) == ["decoder/sinusoids", "vit/sinusoids"]


def test_sinusoids_tell_columns_and_rows_apart():
    """One wavelength: the sine and the cosine of the column, then those of the row; row by row behind [CLS]."""
    table = sinusoids((2, 3))(jax.random.key(0), (1, 7, 4), jnp.dtype("float32"))[0]
    assert not table[0].any()
    columns, rows = np.tile(np.arange(3), 2), np.repeat(np.arange(2), 3)
    expected = np.stack([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
    np.testing.assert_allclose(table[1:], expected, atol=1e-6)
    wide = np.asarray(sinusoids((1, 2))(jax.random.key(0), (1, 3, 8), jnp.dtype("float32"))[0])
    np.testing.assert_allclose(wide[2, :2], np.sin([1, 1 / 100]), atol=1e-6)


@pytest.mark.parametrize("variant", ViTMAEConfig.variants)
def test_config_to_json_and_back(variant):
    config = ViTMAEConfig.variant(variant, mask_ratio=0.6, norm_pix_loss=True)
    assert ViTMAEConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio=1.0: expected a fraction"),
        ({"decoder_hidden_size": 20, "decoder_num_attention_heads": 3}, "decoder_hidden_size=20 does not divide into"),
        ({"decoder_hidden_size": 22}, "decoder_hidden_size=22: sinusoids in two directions want a multiple of 4"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_noise_of_other_patches_is_refused():
    with pytest.raises(ModelError, match=r"noise of shape \(4, 16\) for \(4, 15\) images and patches"):
        MODEL.apply(variables(), images(), jnp.zeros((4, 16)))
