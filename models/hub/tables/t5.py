"""T5's names, as `transformers` publishes them."""

from models.hub.names import Name, NameTable, table_of, transposed


def kernel(published: str, ours: str) -> Name:
    """A linear layer without a bias."""
    return Name(f"{published}.weight", f"{ours}/kernel", transposed)


def scale(published: str, ours: str) -> Name:
    """A norm without a bias."""
    return Name(f"{published}.weight", f"{ours}/scale")


def side(name: str, attentions: dict[str, str]) -> tuple[Name, ...]:
    """The encoder or the decoder, `attentions` being the names of its attentions: published → ours."""
    block, ours, names = f"{name}.block.{{layer}}.layer", f"{name}/layers", []
    for number, (published, attention) in enumerate(attentions.items()):
        for projection, called in dict(q="query", k="key", v="value", o="out").items():
            names.append(kernel(f"{block}.{number}.{published}.{projection}", f"{ours}/{attention}/{called}"))
        names.append(scale(f"{block}.{number}.layer_norm", f"{ours}/{attention}_norm"))
    last = f"{block}.{len(attentions)}"
    return (
        *names,
        kernel(f"{last}.DenseReluDense.wi", f"{ours}/up"),
        kernel(f"{last}.DenseReluDense.wi_0", f"{ours}/gate"),
        kernel(f"{last}.DenseReluDense.wi_1", f"{ours}/linear"),
        kernel(f"{last}.DenseReluDense.wo", f"{ours}/down"),
        scale(f"{last}.layer_norm", f"{ours}/mlp_norm"),
        Name(
            f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{name}/relative_attention_bias/embedding",
        ),
        scale(f"{name}.final_layer_norm", f"{name}/norm"),
    )


TABLE = NameTable(
    names=(
        table_of("shared", "shared"),
        *side("encoder", {"SelfAttention": "attention"}),
        *side("decoder", {"SelfAttention": "attention", "EncDecAttention": "cross_attention"}),
        kernel("lm_head", "lm_head"),
    ),
    prefix=("transformer.", ""),  # which no class publishes: their tensors have the same names in all
    aliases={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    },
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    untied={"lm_head.weight": {"tie_word_embeddings": False}},
)
