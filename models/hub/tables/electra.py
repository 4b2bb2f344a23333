"""ELECTRA's names, as `transformers` publishes them: BERT's encoder, and heads of its own."""

from models.hub.names import Name, NameTable, linear, norm, transposed
from models.hub.tables.bert import encoder

TABLE = NameTable(
    names=(
        *encoder("electra"),
        *linear("electra.embeddings_project", "electra/embeddings_project"),
        *linear("discriminator_predictions.dense", "discriminator_transform"),
        *linear("discriminator_predictions.dense_prediction", "discriminator"),
        *linear("generator_predictions.dense", "transform"),
        *norm("generator_predictions.LayerNorm", "transform_norm"),
        Name("generator_lm_head.weight", "decoder/kernel", transposed),
        Name("generator_lm_head.bias", "predictions_bias"),
        *linear("classifier.dense", "classifier_transform"),
        *linear("classifier.out_proj", "classifier_output"),
        *linear("sequence_summary.summary", "summary"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
    ),
    prefix=("electra.", "electra/"),
    renamed={".gamma": ".weight", ".beta": ".bias"},
    aliases={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ignored=("electra.embeddings.position_ids",),
)
