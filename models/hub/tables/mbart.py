"""mBART's names, as `transformers` publishes them: BART's, and a norm at the end of encoder and decoder."""

from models.hub.names import norm
from models.hub.tables import bart

TABLE = bart.TABLE.extended(
    *norm("model.encoder.layer_norm", "model/encoder/norm"), *norm("model.decoder.layer_norm", "model/decoder/norm")
)
