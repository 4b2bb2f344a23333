"""GPT-2's names, as `transformers` publishes them."""

import numpy as np

from models.hub.names import Name, NameTable, norm, table_of

LAYER = "transformer.h.{layer}"


def three(x: np.ndarray) -> np.ndarray:
    """Queries, keys and values side by side on the last axis → on an axis of their own."""
    return x.reshape(*x.shape[:-1], 3, -1)


def side_by_side(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:-2], -1)


def conv1d(published: str, ours: str) -> tuple[Name, Name]:
    """A linear layer whose weight is (in, out) already."""
    return Name(f"{published}.weight", f"{ours}/kernel"), Name(f"{published}.bias", f"{ours}/bias")


TABLE = NameTable(
    names=(
        table_of("transformer.wte", "transformer/word_embeddings"),
        table_of("transformer.wpe", "transformer/position_embeddings"),
        *norm(f"{LAYER}.ln_1", "transformer/layers/attention_norm"),
        Name(f"{LAYER}.attn.c_attn.weight", "transformer/layers/attention/qkv/kernel", three, side_by_side),
        Name(f"{LAYER}.attn.c_attn.bias", "transformer/layers/attention/qkv/bias", three, side_by_side),
        *conv1d(f"{LAYER}.attn.c_proj", "transformer/layers/attention/out"),
        *norm(f"{LAYER}.ln_2", "transformer/layers/mlp_norm"),
        *conv1d(f"{LAYER}.mlp.c_fc", "transformer/layers/up"),
        *conv1d(f"{LAYER}.mlp.c_proj", "transformer/layers/down"),
        *norm("transformer.ln_f", "transformer/norm"),
        Name("lm_head.weight", "lm_head/kernel", np.transpose, np.transpose),
        Name("score.weight", "score/kernel", np.transpose, np.transpose),
    ),
    prefix=("transformer.", "transformer/"),
    aliases={"lm_head.weight": "transformer.wte.weight"},
    ignored=("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),
)
