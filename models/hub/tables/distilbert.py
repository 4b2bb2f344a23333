"""DistilBERT's names, as `transformers` publishes them."""

from models.hub.names import Name, NameTable, linear, norm, table_of, transposed

LAYER = "distilbert.transformer.layer.{layer}"

TABLE = NameTable(
    names=(
        table_of("distilbert.embeddings.word_embeddings", "distilbert/word_embeddings"),
        table_of("distilbert.embeddings.position_embeddings", "distilbert/position_embeddings"),
        *norm("distilbert.embeddings.LayerNorm", "distilbert/embedding_norm"),
        *linear(f"{LAYER}.attention.q_lin", "distilbert/layers/attention/query"),
        *linear(f"{LAYER}.attention.k_lin", "distilbert/layers/attention/key"),
        *linear(f"{LAYER}.attention.v_lin", "distilbert/layers/attention/value"),
        *linear(f"{LAYER}.attention.out_lin", "distilbert/layers/attention/out"),
        *norm(f"{LAYER}.sa_layer_norm", "distilbert/layers/attention_norm"),
        *linear(f"{LAYER}.ffn.lin1", "distilbert/layers/up"),
        *linear(f"{LAYER}.ffn.lin2", "distilbert/layers/down"),
        *norm(f"{LAYER}.output_layer_norm", "distilbert/layers/mlp_norm"),
        *linear("vocab_transform", "transform"),
        *norm("vocab_layer_norm", "transform_norm"),
        Name("vocab_projector.weight", "decoder/kernel", transposed),
        Name("vocab_projector.bias", "predictions_bias"),
        *linear("pre_classifier", "pre_classifier"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
    ),
    prefix=("distilbert.", "distilbert/"),
    aliases={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ignored=("distilbert.embeddings.position_ids",),
)
