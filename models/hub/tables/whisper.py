"""Whisper's names, as `transformers` publishes them."""

import numpy as np

from models.hub.names import Name, NameTable, linear, norm, table_of
from models.hub.tables.bart import side


def to_row(x: np.ndarray) -> np.ndarray:
    """A convolution along time: (out, in, width) as published, that of an image of one row here."""
    return x.transpose(2, 1, 0)[None]


def to_line(x: np.ndarray) -> np.ndarray:
    return x[0].transpose(2, 1, 0)


def convolution(name: str) -> tuple[Name, Name]:
    published, ours = f"model.encoder.{name}", f"model/encoder/{name}"
    return Name(f"{published}.weight", f"{ours}/kernel", to_row, to_line), Name(f"{published}.bias", f"{ours}/bias")


TABLE = NameTable(
    names=(
        *convolution("conv1"),
        *convolution("conv2"),
        Name("model.encoder.embed_positions.weight", "model/encoder/position_embeddings"),
        *side("encoder", {"self_attn": "attention"}),
        *norm("model.encoder.layer_norm", "model/encoder/norm"),
        table_of("model.decoder.embed_tokens", "model/shared"),
        table_of("model.decoder.embed_positions", "model/decoder/position_embeddings"),
        *side("decoder", {"self_attn": "attention", "encoder_attn": "cross_attention"}),
        *norm("model.decoder.layer_norm", "model/decoder/norm"),
        Name("layer_weights", "layer_weights"),
        *linear("projector", "projector"),
        *linear("classifier", "classifier"),
    ),
    prefix=("model.", "model/"),
    aliases={"proj_out.weight": "model.decoder.embed_tokens.weight"},
)
