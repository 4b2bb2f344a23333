"""BERT's names, as `transformers` publishes them."""

from models.hub.names import Name, NameTable, linear, norm, table_of

LAYER = "bert.encoder.layer.{layer}"

TABLE = NameTable(
    names=(
        table_of("bert.embeddings.word_embeddings", "bert/word_embeddings"),
        table_of("bert.embeddings.position_embeddings", "bert/position_embeddings"),
        table_of("bert.embeddings.token_type_embeddings", "bert/token_type_embeddings"),
        *norm("bert.embeddings.LayerNorm", "bert/embedding_norm"),
        *linear(f"{LAYER}.attention.self.query", "bert/layers/attention/query"),
        *linear(f"{LAYER}.attention.self.key", "bert/layers/attention/key"),
        *linear(f"{LAYER}.attention.self.value", "bert/layers/attention/value"),
        *linear(f"{LAYER}.attention.output.dense", "bert/layers/attention/out"),
        *norm(f"{LAYER}.attention.output.LayerNorm", "bert/layers/attention_norm"),
        *linear(f"{LAYER}.intermediate.dense", "bert/layers/up"),
        *linear(f"{LAYER}.output.dense", "bert/layers/down"),
        *norm(f"{LAYER}.output.LayerNorm", "bert/layers/mlp_norm"),
        *linear("bert.pooler.dense", "bert/pooler"),
        *linear("cls.predictions.transform.dense", "transform"),
        *norm("cls.predictions.transform.LayerNorm", "transform_norm"),
        Name("cls.predictions.bias", "predictions_bias"),
        *linear("cls.seq_relationship", "seq_relationship"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
    ),
    prefix=("bert.", "bert/"),
    renamed={".gamma": ".weight", ".beta": ".bias"},
    aliases={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=frozenset({"bert.embeddings.position_ids"}),
    optional={"bert.pooler.dense.weight": {"add_pooling_layer": False}},
)
