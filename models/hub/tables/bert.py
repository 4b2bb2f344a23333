"""BERT's names, as `transformers` publishes them."""

from models.bert import BertConfig
from models.hub.names import Name, NameTable, linear, norm, table_of, transposed


def encoder(name: str) -> tuple[Name, ...]:
    """Embeddings and layers of a model called `name`, published and ours."""
    layer, ours = f"{name}.encoder.layer.{{layer}}", f"{name}/layers"
    return (
        table_of(f"{name}.embeddings.word_embeddings", f"{name}/word_embeddings"),
        table_of(f"{name}.embeddings.position_embeddings", f"{name}/position_embeddings"),
        table_of(f"{name}.embeddings.token_type_embeddings", f"{name}/token_type_embeddings"),
        *norm(f"{name}.embeddings.LayerNorm", f"{name}/embedding_norm"),
        *linear(f"{layer}.attention.self.query", f"{ours}/attention/query"),
        *linear(f"{layer}.attention.self.key", f"{ours}/attention/key"),
        *linear(f"{layer}.attention.self.value", f"{ours}/attention/value"),
        *linear(f"{layer}.attention.output.dense", f"{ours}/attention/out"),
        *norm(f"{layer}.attention.output.LayerNorm", f"{ours}/attention_norm"),
        *linear(f"{layer}.intermediate.dense", f"{ours}/up"),
        *linear(f"{layer}.output.dense", f"{ours}/down"),
        *norm(f"{layer}.output.LayerNorm", f"{ours}/mlp_norm"),
    )


def of_shape(config: BertConfig) -> tuple[Name, ...]:
    """The names of a head over the vocabulary that is not the word embeddings: it has its bias with it."""
    if config.tie_word_embeddings:
        return ()
    return (
        Name("cls.predictions.decoder.weight", "decoder/kernel", transposed),
        Name("cls.predictions.decoder.bias", "predictions_bias"),
    )


TABLE = NameTable(
    names=(
        *encoder("bert"),
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
    ignored=("bert.embeddings.position_ids",),
    optional={"bert.pooler.dense.weight": {"add_pooling_layer": False}},
    copies={"cls.predictions.bias": "cls.predictions.decoder.bias"},
    of_shape=of_shape,
)
