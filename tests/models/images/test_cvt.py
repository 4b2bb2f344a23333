"""CvT held against what must be true of it, without a reference implementation."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from models import cvt
from models.config import ModelError
from models.cvt import CvtConfig

SMALL = CvtConfig(embed_dim=(8, 12, 16), num_heads=(1, 2, 4), depth=(1, 2, 3), labels=("a", "b", "c"))
MODEL = cvt.CvtForImageClassification(SMALL)
BATCH = 4


def images(batch: int = BATCH, height: int = 37, width: int = 26) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, height, width, 3)), jnp.float32)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    """Every parameter and every statistic another than a fresh model has."""
    rng = np.random.default_rng(0)
    flat = flatten_dict(nn.unbox(model.init(jax.random.key(0), images(1))), sep="/")
    for path, value in flat.items():
        noise = rng.normal(size=value.shape) * 0.2
        flat[path] = value + (np.abs(noise) if path.endswith("/var") else noise).astype(np.float32)
    return unflatten_dict(flat, sep="/")


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts_of(model: nn.Module) -> dict[str, int]:
    """Parameters of each part."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes["params"].items()}


@pytest.mark.parametrize(
    ("variant", "count", "headless"),
    [
        ("cvt_13", 19_997_480, 19_611_712),
        ("cvt_21", 31_622_696, 31_236_928),
        ("cvt_w24", 277_196_392, 276_169_344),
    ],
)
def test_parameter_counts_of_the_published_models(variant, count, headless):
    """`transformers` counts the last norm to the head."""
    counts = counts_of(cvt.CvtForImageClassification(CvtConfig.variant(variant)))
    assert (sum(counts.values()), counts["cvt"]) == (count, headless)


def test_the_base_model_is_that_of_the_model_with_a_head():
    assert sum(counts_of(cvt.CvtModel(SMALL)).values()) == counts_of(MODEL)["cvt"]


@pytest.mark.parametrize(
    ("variant", "size", "billions"),
    [
        ("cvt_13", 224, 4.5),
        ("cvt_21", 224, 7.1),
        ("cvt_13", 384, 16.3),
        ("cvt_21", 384, 24.9),
        ("cvt_w24", 384, 193.2),
    ],
)
def test_flops_are_the_published_ones(variant, size, billions):
    """The released code's README counts multiply-adds."""
    flops = cvt.CvtForImageClassification(CvtConfig.variant(variant)).forward_flops(
        {"pixel_values": (1, size, size, 3)}
    )
    assert abs(flops / 2e9 / billions - 1) < 0.02


def test_our_flops_are_xlas_within_five_percent():
    """XLA counts the program as lowered, norms and activations too, and no padding."""
    model = cvt.CvtForImageClassification(CvtConfig.cvt_13())
    shapes = nn.unbox(jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank())))
    pixels = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    counted = jax.jit(lambda v, x: model.apply(v, x).logits).lower(shapes, pixels).cost_analysis()["flops"]
    assert 0.95 < model.forward_flops({"pixel_values": (2, 224, 224, 3)}) / counted < 1.05


@pytest.mark.parametrize("variant", CvtConfig.variants)
def test_config_to_json_and_back(variant):
    config = CvtConfig.variant(variant, labels=("no", "perhaps", "yes"))
    assert CvtConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_every_parameter_has_logical_axes_for_all_its_dimensions():
    boxed = MODEL.init(jax.random.key(0), images(1))["params"]
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


@pytest.mark.slow
def test_stages_are_images_and_the_class_token_stands_beside_them():
    outputs = MODEL.apply(variables_of(MODEL), images(), output_hidden_states=True)
    shapes = [x.shape for x in outputs.hidden_states]
    assert shapes == [(BATCH, 9, 6, 8), (BATCH, 5, 3, 12), (BATCH, 3, 2, 16)]
    assert SMALL.grids(37, 26) == tuple(shape[1:3] for shape in shapes)
    np.testing.assert_array_equal(outputs.last_hidden_state, outputs.hidden_states[-1])
    assert outputs.cls_token_value.shape == (BATCH, 1, 16) and outputs.logits.shape == (BATCH, 3)


@pytest.mark.slow
def test_without_a_class_token_all_tokens_are_averaged():
    model = cvt.CvtForImageClassification(dataclasses.replace(SMALL, cls_token=(False, False, False)))
    variables = variables_of(model)
    outputs = model.apply(variables, images())
    assert "cls_token_value" not in outputs
    norm, classifier = (variables["params"][name] for name in ("norm", "classifier"))
    tokens = np.asarray(outputs.last_hidden_state).reshape(BATCH, -1, 16)
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    pooled = (tokens * norm["scale"][None, None] + norm["bias"][None, None]).mean(axis=1)
    np.testing.assert_allclose(
        outputs.logits, pooled @ classifier["kernel"] + classifier["bias"][None], rtol=0, atol=1e-5
    )


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def trained(**settings):
    """Outputs, gradients and statistics of a training pass with every kind of dropout."""
    rates = dict(drop_path_rate=(0.0, 0.2, 0.4), drop_rate=(0.1, 0.1, 0.1), attention_drop_rate=(0.1, 0.1, 0.1))
    model = type(MODEL)(dataclasses.replace(SMALL, **rates, **settings))
    variables = variables_of(MODEL)

    def loss(params):
        outputs, moved = model.apply(
            {**variables, "params": params},
            images(),
            dropout_keys=jax.random.split(jax.random.key(5), BATCH),
            batch_axes=(),
            output_hidden_states=True,
            mutable=["batch_stats"],
        )
        return jnp.sin(outputs.logits).sum(), (dict(outputs), moved)

    (_, (outputs, moved)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"outputs": outputs, "moved": moved, "gradients": gradients}, sep="/")


@pytest.fixture(scope="module")
def plain():
    return trained()


@pytest.mark.slow
@pytest.mark.parametrize(("scan_layers", "remat"), [(True, "dots"), (False, "full")])
def test_scan_and_remat_change_no_number(plain, scan_layers, remat):
    found = trained(scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain) and any(path.startswith("moved/") for path in found)
    for path, value in found.items():
        for one, other in zip(jax.tree.leaves(value), jax.tree.leaves(plain[path]), strict=True):
            scale = max(1.0, float(np.abs(other).max()))
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale, err_msg=path)


def test_bfloat16_is_near():
    variables = variables_of(MODEL)
    half = type(MODEL)(dataclasses.replace(SMALL, dtype="bfloat16"))
    expected, found = MODEL.apply(variables, images()), half.apply(variables, images())
    assert found.last_hidden_state.dtype == jnp.bfloat16
    scale = np.abs(expected.logits).max()
    assert 0 < np.abs(found.logits.astype(jnp.float32) - expected.logits).max() < 0.05 * scale


# ── Drop path and dropout ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "rate"), [(0, 0.0), (1, 0.25), (2, 0.5)])
@pytest.mark.parametrize("branch", ["attention/out", "down"])
def test_rates_grow_linearly_and_drop_branches_whole(branch, layer, rate):
    """With all branches at 0 but one, what a stage adds is nothing, or what it adds otherwise over 1 - rate."""
    batch = 400
    stage = cvt.CvtStage(dataclasses.replace(SMALL, depth=(3, 2, 3), drop_path_rate=(0.5, 0.0, 0.0)), 0)
    pixels = images(batch, 9, 10)
    flat = flatten_dict(nn.unbox(stage.init(jax.random.key(0), pixels[:1], None, None)), sep="/")
    for name in ("attention/out", "down"):
        kernel = flat[f"params/layers/{name}/kernel"]
        flat[f"params/layers/{name}/kernel"] = jnp.zeros_like(kernel)
        if name == branch:
            flat[f"params/layers/{name}/kernel"] = jnp.zeros_like(kernel).at[layer].set(50 * kernel[layer])
    variables = unflatten_dict(flat, sep="/")
    nothing = unflatten_dict(
        {path: jnp.zeros_like(x) if path.endswith(f"{branch}/kernel") else x for path, x in flat.items()}, sep="/"
    )
    keys = jax.random.split(jax.random.key(2), batch)
    before = stage.apply(nothing, pixels, None, None)[0]
    whole = stage.apply(variables, pixels, None, None)[0] - before
    found = stage.apply(variables, pixels, keys, None)[0] - before
    assert np.abs(whole).max() > 0.01
    dropped = np.asarray(found == 0).all(axis=(1, 2, 3))
    assert abs(dropped.mean() - rate) <= 4 * (rate * (1 - rate) / batch) ** 0.5
    np.testing.assert_allclose(found[~dropped], whole[~dropped] / (1 - rate), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["drop_rate", "attention_drop_rate", "drop_path_rate"])
def test_dropout_is_that_of_each_example_and_only_with_keys(rate):
    model = type(MODEL)(dataclasses.replace(SMALL, **{"drop_path_rate": (0.0, 0.0, 0.0), rate: (0.0, 0.0, 0.5)}))
    variables, keys = variables_of(MODEL), jax.random.split(jax.random.key(1), BATCH)
    still = MODEL.apply(variables, images()).logits
    np.testing.assert_array_equal(model.apply(variables, images()).logits, still)
    moving = model.apply(variables, images(), dropout_keys=keys).logits
    assert np.abs(moving - still).max() > 1e-3
    part = model.apply(variables, images()[1:3], dropout_keys=keys[1:3]).logits
    np.testing.assert_allclose(part, moving[1:3], rtol=0, atol=1e-5)


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": (1, 5, 4)}, "embed_dim=12 does not divide into num_heads=5"),
        ({"depth": (1, 2)}, r"patch_sizes=\(7, 3, 3\): expected one entry for each of the 2 of depth"),
        ({"cls_token": (False, True, True)}, "only the last stage can have a class token"),
        ({"stride_q": (1, 2, 1)}, "expected stride 1 and a padding that leaves as many queries"),
        ({"padding_q": (1, 0, 1)}, "expected stride 1 and a padding that leaves as many queries"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_projections_of_other_kinds_are_refused():
    with pytest.raises(ModelError, match="only dw_bn is implemented for CvT"):
        CvtConfig.from_json({**SMALL.to_json(), "qkv_projection_method": ["dw_bn", "avg", "dw_bn"]})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 32, 32, 1), "pixel_values has 1 channels, num_channels=3"),
        ((1, 3, 32, 32), "pixel_values has 32 channels, num_channels=3"),
        ((1, 2, 40, 3), "an image of 2 x 40 is too small for the patches of 3 stages"),
    ],
)
def test_images_of_another_shape_are_refused(shape, message):
    with pytest.raises(ModelError, match=message):
        MODEL.apply(variables_of(MODEL), jnp.zeros(shape))
