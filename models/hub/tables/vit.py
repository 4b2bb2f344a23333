"""ViT's names, as `transformers` publishes them; in files, not in a state dict, those of its version 4."""

import numpy as np

from models.hub.names import Name, NameTable, convolution, linear, norm

RENAMED = {
    "layers.": "encoder.layer.",
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
"""Names of version 5 → those of version 4, which the files have."""


def layers(published: str, ours: str) -> tuple[Name, ...]:
    """The layers that are called so, published and ours."""
    layer = f"{published}.{{layer}}"
    return (
        *norm(f"{layer}.layernorm_before", f"{ours}/attention_norm"),
        *linear(f"{layer}.attention.attention.query", f"{ours}/attention/query"),
        *linear(f"{layer}.attention.attention.key", f"{ours}/attention/key"),
        *linear(f"{layer}.attention.attention.value", f"{ours}/attention/value"),
        *linear(f"{layer}.attention.output.dense", f"{ours}/attention/out"),
        *norm(f"{layer}.layernorm_after", f"{ours}/mlp_norm"),
        *linear(f"{layer}.intermediate.dense", f"{ours}/up"),
        *linear(f"{layer}.output.dense", f"{ours}/down"),
    )


def to_linear(x: np.ndarray) -> np.ndarray:
    """A convolution of 1×1 pixels as a linear layer."""
    return x[:, :, 0, 0].T


def to_convolution(x: np.ndarray) -> np.ndarray:
    return x.T[:, :, None, None]


TABLE = NameTable(
    names=(
        Name("vit.embeddings.cls_token", "vit/cls_token"),
        Name("vit.embeddings.mask_token", "vit/mask_token"),
        Name("vit.embeddings.position_embeddings", "vit/position_embeddings"),
        *convolution("vit.embeddings.patch_embeddings.projection", "vit/patch_embeddings"),
        *layers("vit.encoder.layer", "vit/layers"),
        *norm("vit.layernorm", "vit/norm"),
        *linear("vit.pooler.dense", "vit/pooler"),
        *linear("classifier", "classifier"),
        Name("decoder.0.weight", "decoder/kernel", to_linear, to_convolution),
        Name("decoder.0.bias", "decoder/bias"),
    ),
    prefix=("vit.", "vit/"),
    renamed=RENAMED,
    optional={"vit.pooler.dense.weight": {"add_pooling_layer": False}},
)
