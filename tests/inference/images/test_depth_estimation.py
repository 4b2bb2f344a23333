"""Depth of pictures against the model that is asked, without a reference implementation."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.scenes.processor import SceneProcessor
from experiments.commands import predict
from inference.pipeline import pipeline
from inference.tasks.depth_estimation import grey, resized
from models import hub
from models.config import ModelError
from models.glpn import GLPNConfig, GLPNForDepthEstimation
from models.segformer import SegformerConfig, SegformerModel

SHAPE = dict(hidden_sizes=(4, 4, 6, 8), num_attention_heads=(1, 1, 2, 2), depths=(1, 1, 1, 1), decoder_hidden_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glpn")
    model = GLPNForDepthEstimation(GLPNConfig(**SHAPE))
    variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    hub.save(path, model, jax.tree.map(lambda x: x + 0.1, variables))
    SceneProcessor("GLPNImageProcessor", size_divisor=32, do_normalize=False).write(path)
    return path


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((32, 64), (32, 64), (41, 50), (32, 64))]


def test_depth_is_the_models_at_the_size_of_the_picture(folder):
    model, variables = hub.load(folder)
    found = pipeline("depth-estimation", folder)(pictures())
    values = np.stack(pictures()[:2]).astype(np.float32) / 255
    expected = model.apply(variables, jnp.asarray(values)).predicted_depth
    for one, depth in zip(found, expected, strict=False):
        np.testing.assert_allclose(one["predicted_depth"], depth, atol=1e-5)
    assert found[2]["predicted_depth"].shape == (41, 50) and found[2]["depth"].size == (50, 41)
    levels = np.asarray(found[0]["depth"])
    assert levels.dtype == np.uint8 and levels.min() == 0 and levels.max() == 255
    assert levels.argmin() == found[0]["predicted_depth"].argmin()


def test_together_as_alone(folder):
    ask = pipeline("depth-estimation", folder)
    for one, picture in zip(ask(pictures()), pictures(), strict=True):
        np.testing.assert_allclose(one["predicted_depth"], ask(picture)["predicted_depth"], atol=1e-5)


def test_depth_at_another_size_and_in_grey():
    """Bicubic weights add up to 1, so that a wall stays one; a slope is one to a twentieth of a step between pixels."""
    np.testing.assert_allclose(resized(np.full((32, 64), 3.0, np.float32), (48, 70)), 3.0, atol=1e-5)
    slope = np.arange(32, dtype=np.float32)[:, None] + np.zeros(64, np.float32)
    larger, exact = resized(slope, (48, 70)), (np.arange(48)[:, None] + 0.5) / 1.5 - 0.5
    assert np.abs(larger - exact)[3:-3].max() < 0.05 < np.abs(larger[::2] - exact[1::2]).max()
    assert resized(slope, slope.shape) is slope
    assert grey(np.array([[1, 2, 3]], np.float32)).tolist() == [[0, 127, 255]]
    assert not grey(np.ones((2, 2), np.float32)).any()


def test_the_command_says_how_far(folder, tmp_path, capsys):
    file = tmp_path / "a.png"
    Image.fromarray(pictures()[2]).save(file)
    predict.main(["depth-estimation", str(file), "--model", str(folder), "--draw", str(tmp_path / "drawn")])
    said = json.loads(capsys.readouterr().out)
    modes = {path.name: Image.open(path).mode for path in (tmp_path / "drawn").iterdir()}
    assert modes == {"a.depth.png": "L", "a.depth-colours.png": "RGB"}
    assert (said["height"], said["width"]) == (41, 50) and said["nearest"] < said["mean"] < said["farthest"] < 10.5


def test_a_model_without_depth_is_refused(tmp_path):
    model = SegformerModel(SegformerConfig(**{name: x for name, x in SHAPE.items() if "decoder" not in name}))
    hub.save(tmp_path, model, nn.unbox(model.init(jax.random.key(0), **model.blank())))
    with pytest.raises(
        ModelError, match=r"depth-estimation asks for predicted_depth \(height, width\); SegformerModel"
    ):
        pipeline("depth-estimation", tmp_path)
