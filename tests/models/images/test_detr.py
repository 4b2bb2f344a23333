"""DETR held against what must be true of it, without a reference implementation."""

import dataclasses
import functools
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from models import hub
from models.backbone import placed
from models.config import ModelError
from models.detr import DetrConfig, DetrForObjectDetection, DetrForSegmentation, DetrModel
from models.detr.layers import feature_mask, resized, sine_positions
from models.hub.tables.detr import TIMM
from models.resnet import ResNetConfig

ALL = ("stage1", "stage2", "stage3", "stage4")
BACKBONE = ResNetConfig(embedding_size=8, hidden_sizes=(8, 12, 16, 24), depths=(1, 2, 1, 2), out_features=ALL)
SMALL = DetrConfig(
    backbone_config=BACKBONE,
    num_queries=5,
    encoder_layers=2,
    encoder_ffn_dim=24,
    encoder_attention_heads=8,
    decoder_layers=3,
    decoder_ffn_dim=24,
    decoder_attention_heads=2,
    d_model=16,
    labels=("a", "b", "c"),
)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    """Of a fresh model, its statistics other ones than a fresh model has."""
    variables = nn.unbox(jax.jit(lambda: model.init(jax.random.key(0), **model.blank()))())
    rng = np.random.default_rng(1)

    def other(path, x):
        drawn = rng.normal(size=x.shape) * 0.1 if path[-1].key == "mean" else rng.random(x.shape) + 0.5
        return jnp.asarray(drawn, jnp.float32)

    return {**variables, "batch_stats": jax.tree_util.tree_map_with_path(other, variables["batch_stats"])}


def pictures(batch: int = 2, size: tuple[int, int] = (66, 90)) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, *size, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("variant", "head", "count", "headless"),
    [
        ("detr_resnet50", DetrForObjectDetection, 41_524_768, 41_368_512),
        ("detr_resnet101", DetrForObjectDetection, 60_464_672, 60_308_416),
        ("detr_resnet50_dc5", DetrForObjectDetection, 41_524_768, 41_368_512),
        ("detr_resnet50_panoptic", DetrForSegmentation, 42_899_288, 41_368_512),
        ("detr_resnet101_panoptic", DetrForSegmentation, 61_839_192, 60_308_416),
    ],
)
def test_parameter_counts_of_the_published_models(variant, head, count, headless):
    """Scales and biases of frozen norms are no parameters there."""
    config = DetrConfig.variant(variant, scan_layers=True)

    def size(model):
        parameters = hub.flat({"params": hub.variable_shapes(model)["params"]})
        return sum(x.size for path, x in parameters.items() if "normalization" not in path)

    assert (size(head(config)), size(DetrModel(config))) == (count, headless)


@pytest.mark.parametrize("variant", DetrConfig.variants)
def test_config_to_json_and_back(variant):
    config = DetrConfig.variant(variant, labels=("cat", "dog"))
    written = json.loads(json.dumps(config.to_json()))
    assert DetrConfig.from_json(written) == config
    assert written["backbone_config"]["model_type"] == ("timm_backbone" if config.dilation else "resnet")


@pytest.mark.parametrize(
    ("published", "config"),
    [
        ({}, ResNetConfig(out_features=ALL)),
        ({"backbone": "resnet101"}, ResNetConfig.resnet101(out_features=ALL)),
        ({"backbone": "resnet50", "use_timm_backbone": True, "backbone_config": None}, ResNetConfig(out_features=ALL)),
        ({"use_timm_backbone": False}, ResNetConfig(out_features=("stage4",))),
        ({"backbone_config": BACKBONE.to_json(), "use_timm_backbone": False}, BACKBONE),
    ],
)
def test_a_backbone_may_be_named_in_several_ways(published, config):
    found = DetrConfig.from_json(published).backbone_config
    assert dataclasses.replace(found, labels=config.labels) == config


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: DetrConfig.from_json({"dilation": True, "backbone_config": BACKBONE.to_json()}),
            "transformers leaves it",
        ),
        (lambda: DetrConfig.from_json({"position_embedding_type": "learned"}), "position_embedding_type='learned'"),
        (lambda: DetrConfig.from_json({"encoder_layerdrop": 0.1}), "encoder_layerdrop"),
        (lambda: DetrConfig.from_json({"backbone": "vgg16"}), "backbone='vgg16' of timm"),
        (lambda: dataclasses.replace(SMALL, d_model=18, encoder_attention_heads=2), "a multiple of 4"),
        (lambda: dataclasses.replace(SMALL, decoder_attention_heads=3), "decoder_attention_heads=3"),
        (lambda: dataclasses.replace(SMALL, dilation=True).to_json(), "none of the published ResNets"),
        (
            lambda: DetrForSegmentation(
                dataclasses.replace(SMALL, backbone_config=dataclasses.replace(BACKBONE, out_features=("stage4",)))
            ).boxed_shapes(),
            "masks are made of 4 feature maps",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ModelError, match=said):
        make()


def test_positions_are_sines_of_the_picture_alone():
    """Place by place. They begin at 2π / n, not at 0."""
    mask = np.zeros((1, 3, 5), bool)
    mask[0, :2, :4] = True
    found = np.asarray(sine_positions(jnp.asarray(mask), 8))
    for row in range(2):
        for column in range(4):
            expected = []
            for place, last in ((row + 1, 2), (column + 1, 4)):
                angle = 2 * math.pi * place / (last + 1e-6)
                for wave in (1.0, 10_000.0**0.5):
                    expected += [math.sin(angle / wave), math.cos(angle / wave)]
            np.testing.assert_allclose(found[0, row, column], expected, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(8, 4), (128, 4), (7, 3), (5, 10), (800, 25), (66, 3)])
def test_the_place_above_and_to_the_left_is_taken(before, after):
    x = jnp.arange(before)[None, :, None] + jnp.zeros((1, before, 2), int)
    expected = [math.floor(place * before / after + 1e-9) for place in range(after)]
    assert resized(x, (after, 1))[0, :, 0].tolist() == expected
    mask = jnp.zeros((1, 128, 128), int).at[:, :, :72].set(1)
    assert feature_mask(mask, (4, 4))[0, 0].tolist() == [True, True, True, False]


def test_what_is_in_the_padding_is_not_looked_at():
    """Behind the backbone, whose convolutions see some of it: here those of real places end before the pixels that change."""
    near_sighted = ResNetConfig(embedding_size=8, hidden_sizes=(12,), depths=(1,), layer_type="basic")
    model = DetrForObjectDetection(dataclasses.replace(SMALL, backbone_config=near_sighted, decoder_layers=1))
    variables, values = variables_of(model), pictures()
    mask = jnp.ones(values.shape[:3], jnp.int32).at[:, 34:].set(0)
    apply = jax.jit(lambda values: model.apply(variables, values, mask))
    near, far = apply(values), apply(values.at[:, 62:].add(5.0))
    real = np.asarray(near.feature_mask[0]).all(axis=1)
    assert 0 < real.sum() < len(real)
    np.testing.assert_array_equal(near.logits, far.logits)
    assert float(jnp.abs(near.feature_maps[-1] - far.feature_maps[-1]).max()) > 1e-3
    assert float(jnp.abs(near.logits - jax.jit(model.apply)(variables, values).logits).max()) > 1e-4


@pytest.mark.slow_but_first
@pytest.mark.parametrize("changes", [{"scan_layers": True}, {"remat": "full"}])
def test_how_it_runs_changes_no_number(changes):
    def run(config):
        model = DetrForSegmentation(config)
        variables = variables_of(DetrForSegmentation(SMALL))

        def loss(params):
            outputs = model.apply({**variables, "params": params}, pictures())
            return sum(jnp.sin(outputs[name]).mean() for name in ("logits", "pred_masks", "auxiliary_boxes"))

        return jax.jit(jax.grad(loss))(variables["params"])

    expected, found = run(SMALL), run(dataclasses.replace(SMALL, **changes))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * float(jnp.abs(one).max()) + 1e-7)


def test_norms_of_the_backbone_are_frozen():
    model = DetrForObjectDetection(SMALL)
    variables = variables_of(model)

    def loss(params):
        outputs, moved = model.apply(
            {**variables, "params": params}, pictures(), batch_axes=(), mutable=["batch_stats"]
        )
        return jnp.sin(outputs.logits).mean() + jnp.sin(outputs.pred_boxes).mean(), moved["batch_stats"]

    gradients, moved = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert not model.batch_statistics
    jax.tree.map(np.testing.assert_array_equal, moved, variables["batch_stats"])
    flat = hub.flat({"params": gradients})
    norms = {path for path in flat if "backbone" in path and "normalization" in path}
    assert norms and not any(flat[path].any() for path in norms)
    assert all(x.any() for path, x in flat.items() if path.endswith("kernel"))

    free = DetrForObjectDetection(dataclasses.replace(SMALL, freeze_batch_norm=False))
    assert free.batch_statistics and "freeze_batch_norm" not in SMALL.to_json()
    _, moved = jax.jit(lambda: free.apply(variables, pictures(), batch_axes=(), mutable=["batch_stats"]))()
    assert not any(
        map(np.array_equal, jax.tree.leaves(moved["batch_stats"]), jax.tree.leaves(variables["batch_stats"]))
    )


def test_dropout_falls_on_each_example_by_its_key():
    model = DetrForObjectDetection(dataclasses.replace(SMALL, attention_dropout=0.2, activation_dropout=0.2))
    variables, values = variables_of(model), pictures(3)
    keys = jax.random.split(jax.random.key(3), 3)
    apply = jax.jit(lambda values, keys: model.apply(variables, values, dropout_keys=keys).logits)
    together = apply(values, keys)
    for row in range(3):
        np.testing.assert_allclose(apply(values[row:][:1], keys[row:][:1])[0], together[row], atol=1e-5)
    assert float(jnp.abs(together - apply(values, keys[::-1])).max()) > 1e-2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("dilation", [False, True])
def test_a_published_folder_is_read_under_all_its_names(dilation, tmp_path):
    """As saved by `transformers`; as its models in memory call them; as published, the backbone called as timm calls it."""
    backbone = ResNetConfig.resnet18(out_features=ALL)
    model = DetrForSegmentation(dataclasses.replace(SMALL, backbone_config=backbone, dilation=dilation))
    variables = variables_of(model)
    hub.save(tmp_path, model, variables)
    names = load_file(tmp_path / "model.safetensors")
    its = "detr.model.backbone.conv_encoder.model."
    first = "conv1.weight" if dilation else "embedder.embedder.convolution.weight"
    assert f"{its}{first}" in names and "mask_head.lay1.weight" in names and "bbox_attention.q_linear.bias" in names
    assert not any("num_batches_tracked" in name for name in names)

    for other in (published_by_timm, in_memory):
        renamed = {other(name): x for name, x in names.items()}
        assert len(renamed.keys() - names.keys()) > 50 or (dilation and other is published_by_timm)
        save_file(renamed, tmp_path / "model.safetensors")
        again, found = hub.load(tmp_path)
        assert again == model
        jax.tree.map(np.testing.assert_array_equal, found, variables)


def published_by_timm(name: str) -> str:
    for timm, its in TIMM.items():
        name = name.replace(its, timm)
    return name


def in_memory(name: str) -> str:
    """As models of `transformers` call them."""
    for file, memory in (
        ("backbone.conv_encoder.model.", "backbone.model."),
        ("out_proj", "o_proj"),
        (".fc1", ".mlp.fc1"),
        (".fc2", ".mlp.fc2"),
        ("q_linear", "q_proj"),
        ("k_linear", "k_proj"),
        ("mask_head.lay1.", "mask_head.conv1.conv."),
        ("mask_head.gn2.", "mask_head.conv2.norm."),
        ("mask_head.adapter3.", "mask_head.fpn_stages.2.fpn_adapter."),
        ("mask_head.lay5.", "mask_head.fpn_stages.2.refine.conv."),
        ("mask_head.gn3.", "mask_head.fpn_stages.0.refine.norm."),
        ("mask_head.out_lay.", "mask_head.output_conv."),
    ):
        name = name.replace(file, memory)
    return name


@pytest.mark.slow
def test_boxes_are_found_with_the_model_that_makes_masks(tmp_path):
    model = DetrForSegmentation(SMALL)
    variables = variables_of(model)
    hub.save(tmp_path, model, variables)
    other, found = hub.load(tmp_path, architecture=DetrForObjectDetection)
    expected = jax.jit(model.apply)(variables, pictures())
    np.testing.assert_allclose(other.apply(found, pictures()).pred_boxes, expected.pred_boxes, atol=1e-6)
    again, _ = hub.load(tmp_path, initialize=jax.random.key(0), labels=("x", "y"))
    assert again.config.labels == ("x", "y") and isinstance(again, DetrForSegmentation)


def test_a_backbone_is_put_where_the_model_on_it_has_it():
    model, backbone = DetrForObjectDetection(SMALL), BACKBONE.backbone()
    whole = flatten_dict(dict(hub.variable_shapes(model)))
    part = flatten_dict(dict(hub.variable_shapes(backbone)))
    found = placed({path: path for path in part}, whole)
    assert len(found) == len(part) and all(path[:3] == (path[0], "model", "backbone") for path in found)
    assert all(whole[path].shape == part[its].shape and path[3:] == its[1:] for path, its in found.items())
    other = flatten_dict(dict(hub.variable_shapes(ResNetConfig.resnet18().backbone())))
    assert DetrConfig().on(ResNetConfig.resnet18()).backbone_config == ResNetConfig.resnet18(out_features=ALL)
    with pytest.raises(ModelError, match="no backbone with"):
        placed({path: None for path in other}, whole)
