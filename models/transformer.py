"""The Transformer of 2017: an encoder with a decoder that translates, on attention alone.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin: "Attention Is All You Need", 2017, arXiv 1706.03762.
`transformers` has no class for it. Marian is its nearest: another order of sines and cosines, and a bias on the scores.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn

from models.config import Variant
from models.encoder_decoder.config import TextEncoderDecoderConfig
from models.encoder_decoder.model import ConditionalGeneration, EncoderDecoderModel
from models.layers.linear import Initializer


@dataclasses.dataclass(frozen=True)
class TransformerConfig(TextEncoderDecoderConfig):
    """Shape of a Transformer; the special tokens, on which the paper is silent, have BART's ids.

    Linear layers begin as Glorot & Bengio (2010) have them, embeddings as N(0, 1 / d_model), so that they have variance 1
    where they are looked up. The paper does not say.
    """

    model_type: ClassVar[str] = "transformer"
    variants: ClassVar[tuple[str, ...]] = ("base", "big")
    normalize_embedding: ClassVar[bool] = False
    static_position_embeddings: ClassVar[bool] = True
    interleaved: ClassVar[bool] = True

    vocab_size: int = 37_000
    d_model: int = 512
    encoder_layers: int = 6
    encoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2_048
    decoder_layers: int = 6
    decoder_attention_heads: int = 8
    decoder_ffn_dim: int = 2_048
    activation_function: str = "relu"
    scale_embedding: bool = True

    base = Variant()
    big = Variant(
        **dict(d_model=1_024, encoder_attention_heads=16, encoder_ffn_dim=4_096, dropout=0.3),
        **dict(decoder_attention_heads=16, decoder_ffn_dim=4_096),
    )

    @property
    def kernel_init(self) -> Initializer:
        return nn.initializers.glorot_uniform()

    @property
    def embedding_init(self) -> Initializer:
        return nn.initializers.normal(self.d_model**-0.5)


class TransformerModel(EncoderDecoderModel):
    """Embeddings, encoder and decoder."""


class TransformerForConditionalGeneration(ConditionalGeneration):
    """Output: `logits` (batch, targets, vocab) of the token after each place."""

    base: ClassVar[type[EncoderDecoderModel]] = TransformerModel
    biased: ClassVar[bool] = False
