"""LeViT held against what must be true of it, without a reference implementation."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from models import hub, levit
from models.config import ModelError
from models.levit import LevitConfig, distances, fused

SMALL = LevitConfig(
    image_size=80,
    hidden_sizes=(16, 24, 32),
    num_attention_heads=(1, 2, 3),
    depths=(1, 2, 2),
    key_dim=(8, 8, 8),
    labels=("a", "b", "c"),
)
TEACHER = levit.LevitForImageClassificationWithTeacher(SMALL)
BATCH = 4


def images(batch: int = BATCH) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, 80, 80, 3)), jnp.float32)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    """Every parameter and every statistic another than a fresh model has."""
    rng = np.random.default_rng(0)
    boxed = model.init(jax.random.key(0), **model.blank())
    flat = flatten_dict(nn.unbox(boxed), sep="/")
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
    ("variant", "one_head", "two_heads"),
    [
        ("levit_128s", 7_391_290, 7_777_058),
        ("levit_128", 8_828_168, 9_213_936),
        ("levit_192", 10_561_301, 10_947_069),
        ("levit_256", 18_379_852, 18_893_876),
        ("levit_384", 38_358_300, 39_128_836),
    ],
)
def test_parameter_counts_of_the_published_models(variant, one_head, two_heads):
    counts = counts_of(levit.LevitForImageClassificationWithTeacher(LevitConfig.variant(variant)))
    assert sum(counts.values()) == two_heads
    assert counts["levit"] + counts["classifier"] == one_head


def test_a_model_without_its_heads_is_so_much_smaller():
    counts = counts_of(TEACHER)
    one_head = counts_of(levit.LevitForImageClassification(SMALL))
    assert one_head == {name: count for name, count in counts.items() if name != "classifier_distill"}
    assert sum(counts_of(levit.LevitModel(SMALL)).values()) == counts["levit"]


@pytest.mark.parametrize(
    ("variant", "millions"),
    [("levit_128s", 305), ("levit_128", 406), ("levit_192", 658), ("levit_256", 1120), ("levit_384", 2353)],
)
def test_flops_are_those_of_the_paper(variant, millions):
    """It counts multiply-adds."""
    flops = levit.LevitForImageClassification(LevitConfig.variant(variant)).forward_flops(
        {"pixel_values": (1, 224, 224, 3)}
    )
    assert abs(flops / 2e6 / millions - 1) < 0.01


def test_our_flops_are_xlas_within_five_percent():
    """XLA counts the program as lowered, norms and activations too, and no padding."""
    model = levit.LevitForImageClassification(LevitConfig.levit_256())
    shapes = nn.unbox(jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank())))
    pixels = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    counted = jax.jit(lambda v, x: model.apply(v, x).logits).lower(shapes, pixels).cost_analysis()["flops"]
    assert 0.95 < model.forward_flops({"pixel_values": (2, 224, 224, 3)}) / counted < 1.05


@pytest.mark.parametrize("variant", LevitConfig.variants)
def test_config_to_json_and_back(variant):
    config = LevitConfig.variant(variant, labels=("no", "perhaps", "yes"), image_size=64)
    published = json.loads(json.dumps(config.to_json()))
    assert LevitConfig.from_json(published) == config
    assert isinstance(published["drop_path_rate"], int) and "fused_norms" not in published


@pytest.mark.slow
def test_every_parameter_has_logical_axes_for_all_its_dimensions():
    boxed = TEACHER.init(jax.random.key(0), **TEACHER.blank())["params"]
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


def test_a_fresh_model_is_its_shrinking_attention_alone():
    """Where a residual branch ends, the norm's scale is 0; so the last stage, which has nothing else, changes nothing."""
    model = levit.LevitModel(SMALL)
    fresh = model.init(jax.random.key(0), **model.blank())
    states = model.apply(fresh, images(), output_hidden_states=True).hidden_states
    assert [x.shape[1:] for x in states] == [(25, 16), (9, 24), (4, 32), (4, 32)]
    np.testing.assert_array_equal(states[3], states[2])
    assert np.asarray(states[2]).any()


# ── Attention biases ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("grid", "stride"), [(1, 1), (5, 1), (5, 2), (4, 2), (14, 2)])
def test_distances_are_numbered_as_they_first_come(grid, stride):
    """The released code's way: a dictionary of offsets, each with the number that it is first met with."""
    numbers, expected = {}, []
    for y in range(0, grid, stride):
        for x in range(0, grid, stride):
            for other_y in range(grid):
                for other_x in range(grid):
                    offset = (abs(y - other_y), abs(x - other_x))
                    expected.append(numbers.setdefault(offset, len(numbers)))
    found = distances(grid, stride)
    assert found.shape == (len(range(0, grid, stride)) ** 2, grid**2) and len(numbers) == grid**2
    np.testing.assert_array_equal(found.ravel(), expected)


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def trained(**settings):
    """Outputs, gradients and statistics of a training pass with drop path."""
    model = type(TEACHER)(dataclasses.replace(SMALL, drop_path_rate=0.3, **settings))
    variables = variables_of(TEACHER)

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


@pytest.mark.slow
def test_bfloat16_is_near():
    variables = variables_of(TEACHER)
    half = type(TEACHER)(dataclasses.replace(SMALL, dtype="bfloat16"))
    expected, found = TEACHER.apply(variables, images()), half.apply(variables, images())
    assert found.last_hidden_state.dtype == jnp.bfloat16
    scale = np.abs(expected.logits).max()
    assert 0 < np.abs(found.logits.astype(jnp.float32) - expected.logits).max() < 0.05 * scale


def test_the_two_heads_are_averaged():
    outputs = TEACHER.apply(variables_of(TEACHER), images())
    assert np.abs(outputs.cls_logits - outputs.distillation_logits).max() > 0.1
    np.testing.assert_allclose(outputs.logits, (outputs.cls_logits + outputs.distillation_logits) / 2, atol=1e-6)


# ── Drop path ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("branch", ["attention/out", "mlp/down"])
def test_a_branch_is_dropped_whole_with_its_rate(branch):
    """With the other branch at 0, what a layer adds is nothing, or what it adds otherwise over 1 - rate."""
    rate, batch = 0.25, 400
    layer = levit.LevitLayer(dataclasses.replace(SMALL, drop_path_rate=rate), 0, None)
    tokens = jnp.asarray(np.random.default_rng(1).normal(size=(batch, 25, 16)), jnp.float32)
    variables = nn.unbox(layer.init(jax.random.key(0), tokens[:1], jnp.array(0), None))
    flat = flatten_dict(variables, sep="/")
    flat[f"params/{branch}/norm/scale"] = jnp.ones(16)
    variables = unflatten_dict(flat, sep="/")
    keys = jax.random.split(jax.random.key(2), batch)
    whole = layer.apply(variables, tokens, jnp.array(0), None)[0] - tokens
    found = layer.apply(variables, tokens, jnp.array(0), keys)[0] - tokens
    dropped = np.asarray(found == 0).all(axis=(1, 2))
    assert abs(dropped.mean() - rate) < 4 * (rate * (1 - rate) / batch) ** 0.5
    np.testing.assert_allclose(found[~dropped], whole[~dropped] / (1 - rate), atol=1e-5)
    part = layer.apply(variables, tokens[:5], jnp.array(0), keys[:5])[0] - tokens[:5]
    np.testing.assert_allclose(part, found[:5], atol=1e-5)


@pytest.mark.slow
def test_the_branches_of_a_model_are_dropped_each_on_its_own():
    """Of the five layers and two MLPs between stages, 12 branches; what is kept differs from example to example."""
    model = levit.LevitModel(dataclasses.replace(SMALL, drop_path_rate=0.5))
    same = jnp.broadcast_to(images(1), (32, 80, 80, 3))
    variables = {name: variables_of(TEACHER)[name]["levit"] for name in ("params", "batch_stats")}
    still = model.apply(variables, same).pooler_output
    np.testing.assert_allclose(still, jnp.broadcast_to(still[:1], still.shape), atol=1e-5)
    moving = model.apply(variables, same, dropout_keys=jax.random.split(jax.random.key(0), 32)).pooler_output
    assert len(np.unique(np.asarray(moving)[:, 0].round(3))) > 28


# ── Fused norms ──────────────────────────────────────────────────────────────────────────────────────────────────────


def program(model: nn.Module, variables: dict) -> str:
    """A forward pass as it goes to the compiler."""
    return jax.jit(lambda v, x: model.apply(v, x).logits).lower(variables, images()).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["LevitForImageClassification", "LevitForImageClassificationWithTeacher"])
def test_fused_norms_give_the_same_outputs_and_leave_no_norm(architecture):
    model = getattr(levit, architecture)(SMALL)
    variables = variables_of(model)
    without, parameters = fused(model, variables)
    assert without.config == dataclasses.replace(SMALL, fused_norms=True) and set(parameters) == {"params"}
    shapes = {path: x.shape for path, x in hub.shapes_of(without).items()}
    assert {path: x.shape for path, x in flatten_dict(parameters["params"], sep="/").items()} == shapes
    assert not any("norm" in path for path in shapes)
    expected = model.apply(variables, images(), output_hidden_states=True)
    found = without.apply(parameters, images(), output_hidden_states=True)
    assert set(found) == set(expected)
    for one, other in zip(jax.tree.leaves(dict(found)), jax.tree.leaves(dict(expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(np.abs(other).max()))
    assert "rsqrt" in program(model, variables) and "rsqrt" not in program(without, parameters)


def test_a_fused_model_is_neither_trained_nor_published(tmp_path):
    model, variables = fused(TEACHER, variables_of(TEACHER))
    with pytest.raises(ModelError, match="fused_norms is set, and batch_axes asks for statistics"):
        model.apply(variables, images(), batch_axes=())
    with pytest.raises(ModelError, match="fused_norms is set: such a model is neither read nor written"):
        hub.save(tmp_path, model, variables)
    hub.save(tmp_path, TEACHER, variables_of(TEACHER))
    with pytest.raises(ModelError, match="fused_norms is set: such a model is neither read nor written"):
        hub.load(tmp_path, fused_norms=True)


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2, 3)}, r"depths=\(2, 3\): expected a whole number of at least 1 for each of 3 stages"),
        ({"mlp_ratio": (2, 0, 2)}, r"mlp_ratio=\(2, 0, 2\): expected a whole number of at least 1"),
        ({"image_size": 90}, "image_size=90 and patch_size=16: the stem makes 6 tokens of a row"),
        ({"patch_size": 8}, "image_size=80 and patch_size=8: the stem makes 5 tokens of a row"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_attention_of_another_kind_between_stages_is_refused():
    published = {**SMALL.to_json(), "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 3, 2, 2, 2], [""]]}
    with pytest.raises(ModelError, match=r"only .* is implemented for LeViT of this shape"):
        LevitConfig.from_json(published)


@pytest.mark.parametrize("shape", [(1, 80, 80, 1), (1, 64, 80, 3), (1, 3, 80, 80)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ModelError, match=r"expected \(batch, 80, 80, 3\), by image_size and num_channels"):
        TEACHER.apply(variables_of(TEACHER), jnp.zeros(shape))
