"""Llama's names, as `transformers` publishes them."""

import numpy as np

from models.hub.names import Name, NameTable, linear, table_of

LAYER = "model.layers.{layer}"


def scale(published: str, ours: str) -> Name:
    """Scale of an RMS norm."""
    return Name(f"{published}.weight", f"{ours}/scale")


TABLE = NameTable(
    names=(
        table_of("model.embed_tokens", "model/word_embeddings"),
        scale(f"{LAYER}.input_layernorm", "model/layers/attention_norm"),
        *linear(f"{LAYER}.self_attn.q_proj", "model/layers/attention/query"),
        *linear(f"{LAYER}.self_attn.k_proj", "model/layers/attention/key"),
        *linear(f"{LAYER}.self_attn.v_proj", "model/layers/attention/value"),
        *linear(f"{LAYER}.self_attn.o_proj", "model/layers/attention/out"),
        scale(f"{LAYER}.post_attention_layernorm", "model/layers/mlp_norm"),
        *linear(f"{LAYER}.mlp.gate_proj", "model/layers/gate"),
        *linear(f"{LAYER}.mlp.up_proj", "model/layers/up"),
        *linear(f"{LAYER}.mlp.down_proj", "model/layers/down"),
        scale("model.norm", "model/norm"),
        Name("lm_head.weight", "lm_head/kernel", np.transpose, np.transpose),
        Name("score.weight", "score/kernel", np.transpose, np.transpose),
    ),
    prefix=("model.", "model/"),
    aliases={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=("model.layers.*.self_attn.rotary_emb.inv_freq",),
)
