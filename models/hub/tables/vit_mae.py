"""The names of masked autoencoders, as `transformers` publishes them; in files those of its version 4."""

from models.hub.names import Name, NameTable, convolution, linear, norm
from models.hub.tables import vit

TABLE = NameTable(
    names=(
        Name("vit.embeddings.cls_token", "vit/cls_token"),
        Name("vit.embeddings.position_embeddings", "vit/sinusoids"),
        *convolution("vit.embeddings.patch_embeddings.projection", "vit/patch_embeddings"),
        *vit.layers("vit.encoder.layer", "vit/layers"),
        *norm("vit.layernorm", "vit/norm"),
        *linear("decoder.decoder_embed", "decoder/embed"),
        Name("decoder.mask_token", "decoder/mask_token"),
        Name("decoder.decoder_pos_embed", "decoder/sinusoids"),
        *vit.layers("decoder.decoder_layers", "decoder/layers"),
        *norm("decoder.decoder_norm", "decoder/norm"),
        *linear("decoder.decoder_pred", "decoder/pixels"),
    ),
    prefix=("vit.", "vit/"),
    # `save_pretrained` of version 5 takes the decoder's layers for the encoder's.
    renamed={**vit.RENAMED, "decoder_encoder.layer.": "decoder_layers."},
)
