"""Mask2Former held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.config import ModelError
from models.mask2former import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from models.mask2former.config import STAGES
from models.mask2former.decoder import looks_at
from models.mask2former.pixel_decoder import offsets_around
from models.resnet import ResNetConfig
from models.swin import SwinConfig

SMALL = Mask2FormerConfig(
    backbone_config=SwinConfig(
        embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4, out_features=STAGES
    ),
    feature_size=32,
    mask_feature_size=16,
    hidden_dim=32,
    num_attention_heads=4,
    encoder_layers=2,
    encoder_feedforward_dim=24,
    decoder_layers=5,
    dim_feedforward=24,
    num_queries=6,
    labels=("a", "b", "c"),
)
COUNTS = {
    "resnet50": (44_023_377, 44_036_998, 44_041_367),
    "resnet101": (63_015_505, 63_029_126, 63_033_495),
    "swin_tiny": (47_423_179, 47_436_800, 47_441_169),
    "swin_small": (68_741_083, 68_754_704, 68_759_073),
    "swin_base": (106_906_249, 106_919_870, 106_924_239),
    "swin_large": (215_473_861, 215_487_482, 215_491_851),
}
"""Of the models of 80, 133 and 150 classes, with 100 queries."""


def pictures(batch: int = 2) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, 64, 96, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables():
    model = Mask2FormerForUniversalSegmentation(SMALL)
    return jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    labels = tuple(map(str, range(80)))
    config = Mask2FormerConfig.variant(variant, labels=labels, scan_layers=True)
    shapes = hub.variable_shapes(Mask2FormerForUniversalSegmentation(config))["params"]
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    a_class = config.hidden_dim + 1
    assert (found, found + 53 * a_class, found + 70 * a_class) == COUNTS[variant]
    if variant == "swin_large":
        assert found + 2 * 100 * config.hidden_dim == 215_525_061  # as published for instances, with 200 queries


def test_a_published_config_says_all():
    for config in (SMALL, Mask2FormerConfig.resnet50(num_queries=200)):
        assert Mask2FormerConfig.from_json(config.to_json()) == config


def test_each_query_has_a_mask_and_a_class_before_and_behind_each_layer(variables):
    model = Mask2FormerForUniversalSegmentation(SMALL)
    found = jax.jit(model.apply)(variables, pictures())
    assert found.class_queries_logits.shape == (2, 6, 4)
    assert found.masks_queries_logits.shape == (2, 6, 16, 24)
    assert found.auxiliary_class_queries_logits.shape == (2, 4, 6, 4)
    assert found.auxiliary_masks_queries_logits.shape == (2, 4, 6, 16, 24)


@pytest.mark.slow
def test_pictures_of_a_batch_do_not_see_one_another(variables):
    model = Mask2FormerForUniversalSegmentation(SMALL)
    apply = jax.jit(lambda x: model.apply(variables, x).masks_queries_logits)
    np.testing.assert_allclose(apply(pictures())[:1], apply(pictures()[:1]), atol=1e-4)


def test_queries_look_where_their_masks_are_or_everywhere():
    """Of 4 × 4 places those of a map of 2 × 2 are means of four; a query without any looks at all."""
    masks = np.full((1, 3, 4, 4), -1.0)
    masks[0, 0, :2, :2] = 3.0
    masks[0, 2, 2:, 2:] = [[9.0, -1.0], [-1.0, -1.0]]
    found = looks_at(jnp.asarray(masks), (2, 2))
    np.testing.assert_array_equal(found[0, 0], [[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]])


def test_offsets_begin_as_rays():
    """Head h looks in direction 2πh / 8, point n at n + 1 places along the larger axis."""
    offsets = np.asarray(offsets_around(jax.random.key(0), (8 * 3 * 4 * 2,), jnp.float32)).reshape(8, 3, 4, 2)
    np.testing.assert_allclose(offsets[0, 1], [[1, 0], [2, 0], [3, 0], [4, 0]], atol=1e-6)
    np.testing.assert_allclose(offsets[3, 2], [[-1, 1], [-2, 2], [-3, 3], [-4, 4]], atol=1e-5)


@pytest.mark.slow
def test_how_it_runs_changes_no_number(variables):
    def run(**changes):
        model = Mask2FormerForUniversalSegmentation(dataclasses.replace(SMALL, dropout=0.1, **changes))
        keys = jax.random.split(jax.random.key(3), 2)

        def loss(params):
            found = model.apply({**variables, "params": params}, pictures(), dropout_keys=keys)
            return jnp.sin(found.masks_queries_logits).sum()

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    expected, found = run(), run(scan_layers=True, remat="full")
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * max(1.0, float(jnp.abs(one).max())))


def test_batch_norms_of_a_backbone_are_frozen_unless_they_are_told_otherwise():
    resnet = dataclasses.replace(SMALL, backbone_config=ResNetConfig(out_features=STAGES))
    assert not Mask2FormerForUniversalSegmentation(resnet).batch_statistics
    moving = dataclasses.replace(resnet, freeze_batch_norm=False)
    assert Mask2FormerForUniversalSegmentation(moving).batch_statistics
    assert "freeze_batch_norm" not in moving.to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pre_norm=True), "pre_norm"),
        (dict(common_stride=8), "common_stride=8"),
        (dict(feature_size=48), "a multiple of 32"),
        (dict(backbone_config=SwinConfig()), "out_features must be stage1, stage2, stage3, stage4"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)
