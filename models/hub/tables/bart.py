"""BART's names, as `transformers` publishes them; what mBART, Marian and the Transformer have of them."""

from models.hub.names import Name, NameTable, linear, norm, table_of


def side(name: str, attentions: dict[str, str]) -> tuple[Name, ...]:
    """The layers of the encoder or the decoder, `attentions` being the names of its attentions: published → ours."""
    layer, ours = f"model.{name}.layers.{{layer}}", f"model/{name.replace('.', '/')}/layers"
    names: tuple[Name, ...] = ()
    for published, attention in attentions.items():
        for projection, called in dict(q="query", k="key", v="value", out="out").items():
            names += linear(f"{layer}.{published}.{projection}_proj", f"{ours}/{attention}/{called}")
        names += norm(f"{layer}.{published}_layer_norm", f"{ours}/{attention}_norm")
    return (
        *names,
        *linear(f"{layer}.fc1", f"{ours}/up"),
        *linear(f"{layer}.fc2", f"{ours}/down"),
        *norm(f"{layer}.final_layer_norm", f"{ours}/mlp_norm"),
    )


SHARED = NameTable(
    names=(
        table_of("model.shared", "model/shared"),
        *side("encoder", {"self_attn": "attention"}),
        *side("decoder", {"self_attn": "attention", "encoder_attn": "cross_attention"}),
        Name("final_logits_bias", "final_logits_bias", lambda x: x.reshape(-1), lambda x: x[None]),
    ),
    prefix=("model.", "model/"),
    aliases={
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
    ignored=("model.encoder.version", "model.decoder.version"),
    zeros=("final_logits_bias",),
)

TABLE = SHARED.extended(
    *(
        table_of(f"model.{side}.embed_positions", f"model/{side}/position_embeddings")
        for side in ("encoder", "decoder")
    ),
    *norm("model.encoder.layernorm_embedding", "model/encoder/embedding_norm"),
    *norm("model.decoder.layernorm_embedding", "model/decoder/embedding_norm"),
    *linear("classification_head.dense", "transform"),
    *linear("classification_head.out_proj", "classifier"),
    *linear("qa_outputs", "qa_outputs"),
)
