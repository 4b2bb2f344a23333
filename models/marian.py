"""Marian: the Transformer of 2017 as the translation models of OPUS-MT have it: a bias on the scores, sines before cosines.

Junczys-Dowmunt et al.: "Marian: Fast Neural Machine Translation in C++", 2018, arXiv 1804.00344. The published weights:
Tiedemann & Thottingal, "OPUS-MT: Building open translation services for the World", 2020.
"""

import dataclasses
from typing import ClassVar

from models.config import ModelError, Variant
from models.encoder_decoder.config import TextEncoderDecoderConfig
from models.encoder_decoder.model import ConditionalGeneration, EncoderDecoderModel


@dataclasses.dataclass(frozen=True)
class MarianConfig(TextEncoderDecoderConfig):
    """Shape of a Marian, with the field names of a published `config.json`."""

    model_type: ClassVar[str] = "marian"
    variants: ClassVar[tuple[str, ...]] = ("opus",)
    normalize_embedding: ClassVar[bool] = False
    static_position_embeddings: ClassVar[bool] = True

    vocab_size: int = 58_101
    pad_token_id: int | None = 58_100
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 0
    decoder_start_token_id: int | None = 58_100
    forced_eos_token_id: int | tuple[int, ...] | None = 0

    @classmethod
    def from_json(cls, published: dict, **changes) -> "MarianConfig":
        """From a published `config.json`; vocabularies that encoder and decoder do not share are refused."""
        if not published.get("share_encoder_decoder_embeddings", True):
            raise ModelError("share_encoder_decoder_embeddings is off: it is not implemented for marian")
        return super().from_json(published, **changes)

    opus = Variant(
        **dict(d_model=512, max_position_embeddings=512, activation_function="swish", scale_embedding=True),
        **dict(encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2_048),
        **dict(decoder_layers=6, decoder_attention_heads=8, decoder_ffn_dim=2_048),
    )
    """The shape of the OPUS-MT models, here with the vocabulary of English to German."""


class MarianMTModel(ConditionalGeneration):
    """Output: `logits` (batch, targets, vocab) of the token after each place."""

    base: ClassVar[type[EncoderDecoderModel]] = EncoderDecoderModel
