"""GLPN held against what must be true of it, without a reference implementation."""

import dataclasses
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.config import ModelError
from models.glpn import GLPNConfig, GLPNForDepthEstimation, GLPNModel
from models.layers.resize import doubled

SMALL = GLPNConfig(
    hidden_sizes=(8, 12, 16, 20), num_attention_heads=(1, 2, 4, 5), depths=(1, 1, 1, 1), decoder_hidden_size=16
)
MODEL = GLPNForDepthEstimation(SMALL)
COUNTS = {
    "b0": (3_319_392, 307_942, 37_505, 3_664_839),
    "b1": (13_151_424, 340_710, 37_505, 13_529_639),
    "b2": (24_196_288, 340_710, 37_505, 24_574_503),
    "b3": (44_072_128, 340_710, 37_505, 44_450_343),
    "b4": (60_842_688, 340_710, 37_505, 61_220_903),
    "b5": (81_443_008, 340_710, 37_505, 81_821_223),
    "nyu": (60_842_688, 340_710, 37_505, 61_220_903),
    "kitti": (60_842_688, 340_710, 37_505, 61_220_903),
}
"""Parameters of encoder, decoder and head, and of all, counted in the models of `transformers`."""


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: nn.unbox(MODEL.init(jax.random.key(0), **MODEL.blank())))()


def images(batch: int = 2, height: int = 64, width: int = 96) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).random((batch, height, width, 3)), jnp.float32)


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_of_the_published_models(variant):
    model = GLPNForDepthEstimation(GLPNConfig.variant(variant, scan_layers=True))
    shapes = nn.unbox(model.boxed_shapes())
    sizes = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in shapes["params"].items()}
    head = sizes["head_0"] + sizes["head_1"]
    assert (sizes["encoder"], sizes["decoder"], head, sum(sizes.values())) == COUNTS[variant]
    assert sum(x.size for x in jax.tree.leaves(shapes["batch_stats"])) == 576


@pytest.mark.parametrize("variant", GLPNConfig.variants)
def test_config_to_json_and_back(variant):
    config = GLPNConfig.variant(variant)
    assert GLPNConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.max_depth == (80 if variant == "kitti" else 10)


def test_depth_is_that_of_each_pixel_and_below_the_greatest(variables):
    outputs = MODEL.apply(variables, images(), output_hidden_states=True)
    depth = np.asarray(outputs.predicted_depth)
    assert depth.shape == (2, 64, 96) and depth.dtype == np.float32 and (depth > 0).all() and (depth < 10).all()
    assert [x.shape[1:] for x in outputs.hidden_states] == [(16, 24, 8), (8, 12, 12), (4, 6, 16), (2, 3, 20)]
    shapes = [(2, 1, 384, 6), (2, 2, 96, 6), (2, 4, 24, 6), (2, 5, 6, 6)]
    looks = MODEL.apply(variables, images(), output_attentions=True).attentions
    assert [x.shape for x in looks] == shapes
    assert all(np.allclose(x.sum(axis=-1), 1, atol=1e-5) for x in looks)
    far = GLPNForDepthEstimation(dataclasses.replace(SMALL, max_depth=80)).apply(variables, images())
    np.testing.assert_allclose(far.predicted_depth, 8 * depth, rtol=1e-6)
    assert "batch_stats" in variables and MODEL.batch_statistics and not GLPNModel(SMALL).batch_statistics


@pytest.mark.slow
def test_bfloat16_is_near(variables):
    half = type(MODEL)(dataclasses.replace(SMALL, dtype="bfloat16")).apply(variables, images()).predicted_depth
    exact = MODEL.apply(variables, images()).predicted_depth
    assert half.dtype == jnp.float32 and 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max()


def test_doubling_is_bilinear():
    """Pixel by pixel: the place of a new pixel's centre among the old ones, cut off at the edges."""
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype(np.float32)
    expected = np.zeros((1, 6, 8, 2))
    for row in range(6):
        for column in range(8):
            y, z = ((place + 0.5) / 2 - 0.5 for place in (row, column))
            top, left = math.floor(y), math.floor(z)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = abs(1 - i - (y - top)) * abs(1 - j - (z - left))
                expected[0, row, column] += weight * x[0, min(max(top + i, 0), 2), min(max(left + j, 0), 3)]
    np.testing.assert_allclose(doubled(jnp.asarray(x)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_in_index": 4}, "head_in_index=4: the decoder has 4 stages"),
        ({"decoder_hidden_size": 15}, "decoder_hidden_size=15: expected an even number"),
        ({"max_depth": 0}, "max_depth=0: expected a whole number of at least 1"),
        ({"hidden_sizes": (8, 12)}, "expected one entry for each of num_encoder_blocks=4"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 64, 100, 3), r"64 × 100 does not halve from stage to stage .*multiples of 32"),
        ((1, 16, 64, 3), "an image of 16 × 64 is too small"),
        ((1, 64, 64, 1), "pixel_values has 1 channels"),
    ],
)
def test_images_of_another_shape_are_refused(variables, shape, message):
    with pytest.raises(ModelError, match=message):
        MODEL.apply(variables, jnp.zeros(shape))


def test_a_folder_with_a_pickle_alone_is_refused_with_the_way_in(tmp_path):
    """As both published folders are."""
    (tmp_path / "config.json").write_text(
        json.dumps({**SMALL.to_json(), "architectures": ["GLPNForDepthEstimation"]}), encoding="utf-8"
    )
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(
        ModelError, match=r"pytorch_model\.bin is a pickle, which can run code and is never read.*refs/pr/.*safetensors"
    ):
        hub.load(tmp_path)
