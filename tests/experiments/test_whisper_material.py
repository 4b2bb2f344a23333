"""Weights of Whisper out of a CTranslate2 file, which is written here as that library writes one."""

import struct

import numpy as np
import pytest

from experiments.material.whisper_tiny import published, tensors
from models.config import ModelError

WIDTH, RNG = 4, np.random.default_rng(0)
TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.normal(size=shape).astype(np.float16) for shape in shapes]


def written(path, weights: dict[str, np.ndarray], version: int = 6) -> None:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(weights))
    for name, x in weights.items():
        content += string(name) + struct.pack("<B", x.ndim) + struct.pack(f"<{x.ndim}I", *x.shape)
        content += struct.pack("<BI", TYPES[x.dtype.name], x.nbytes) + x.tobytes()
    path.write_bytes(
        content + struct.pack("<I", 1) + string("decoder/projection/weight") + string("decoder/embeddings/weight")
    )


def weights() -> dict[str, np.ndarray]:
    """One layer of a decoder, and what stands outside of layers."""
    qkv, q, kv, out = arrays((3 * WIDTH, WIDTH), (WIDTH, WIDTH), (2 * WIDTH, WIDTH), (WIDTH, WIDTH))
    bias = np.concatenate([*arrays((WIDTH,)), np.zeros(WIDTH, np.float16), *arrays((WIDTH,))])
    layer = "decoder/layer_0"
    return {
        "decoder/activation": np.array(3, np.int8),
        "encoder/conv1/weight": arrays((WIDTH, 3, 3))[0],
        "encoder/position_encodings/encodings": arrays((5, WIDTH))[0],
        "encoder/layer_norm/gamma": arrays((WIDTH,))[0],
        "decoder/embeddings/weight": arrays((9, WIDTH))[0],
        f"{layer}/self_attention/linear_0/weight": qkv,
        f"{layer}/self_attention/linear_0/bias": bias,
        f"{layer}/self_attention/layer_norm/beta": arrays((WIDTH,))[0],
        f"{layer}/attention/linear_0/weight": q,
        f"{layer}/attention/linear_1/weight": kv,
        f"{layer}/attention/linear_2/weight": out,
        f"{layer}/ffn/layer_norm/gamma": arrays((WIDTH,))[0],
        f"{layer}/ffn/linear_1/weight": arrays((WIDTH, 8))[0],
    }


def test_each_tensor_has_its_published_name(tmp_path):
    given = weights()
    written(tmp_path / "model.bin", given)
    found = published(tensors(tmp_path / "model.bin"))
    layer, attention = "model.decoder.layers.0", "decoder/layer_0"
    qkv, kv = given[f"{attention}/self_attention/linear_0/weight"], given[f"{attention}/attention/linear_1/weight"]
    bias = given[f"{attention}/self_attention/linear_0/bias"]
    expected = {
        "model.encoder.conv1.weight": given["encoder/conv1/weight"],
        "model.encoder.embed_positions.weight": given["encoder/position_encodings/encodings"],
        "model.encoder.layer_norm.weight": given["encoder/layer_norm/gamma"],
        "model.decoder.embed_tokens.weight": given["decoder/embeddings/weight"],
        **{f"{layer}.self_attn.{name}_proj.weight": part for name, part in zip("qkv", np.split(qkv, 3), strict=True)},
        f"{layer}.self_attn.q_proj.bias": bias[:WIDTH],
        f"{layer}.self_attn.v_proj.bias": bias[2 * WIDTH :],
        f"{layer}.self_attn_layer_norm.bias": given[f"{attention}/self_attention/layer_norm/beta"],
        f"{layer}.encoder_attn.q_proj.weight": given[f"{attention}/attention/linear_0/weight"],
        **{f"{layer}.encoder_attn.{name}_proj.weight": part for name, part in zip("kv", np.split(kv, 2), strict=True)},
        f"{layer}.encoder_attn.out_proj.weight": given[f"{attention}/attention/linear_2/weight"],
        f"{layer}.final_layer_norm.weight": given[f"{attention}/ffn/layer_norm/gamma"],
        f"{layer}.fc2.weight": given[f"{attention}/ffn/linear_1/weight"],
    }
    assert found.keys() == expected.keys() and all(x.dtype == np.float32 for x in found.values())
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x.astype(np.float32))


def test_a_key_has_no_bias(tmp_path):
    given = weights()
    given["decoder/layer_0/self_attention/linear_0/bias"][WIDTH] = 1
    with pytest.raises(ModelError, match="the bias of keys is not 0"):
        published(given)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        tensors(path)
    written(path, weights(), version=3)
    with pytest.raises(ModelError, match="has version 3 of the format: expected 4 to 6"):
        tensors(path)
    written(path, weights())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="is no CTranslate2 model"):
        tensors(path)
