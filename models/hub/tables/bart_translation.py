"""The names of a BART with a source encoder: BART's. `transformers` has no class of this type."""

from models.hub.names import norm, table_of
from models.hub.tables import bart

TABLE = bart.TABLE.extended(
    table_of("model.source.embed_tokens", "model/source/words"),
    table_of("model.source.encoder.embed_positions", "model/source/encoder/position_embeddings"),
    *norm("model.source.encoder.layernorm_embedding", "model/source/encoder/embedding_norm"),
    *bart.side("source.encoder", {"self_attn": "attention"}),
)
