"""Configs of encoder-decoders."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn

from models.config import ModelConfig, ModelError
from models.layers.activations import activation
from models.layers.attention import Cache
from models.layers.linear import Initializer


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig(ModelConfig):
    """Base of the configs of encoder-decoders. A subclass has the fields of its published `config.json`.

    Class attributes, which differ between architectures:

        normalize_before: pre-norms and a norm at the end; else post-norms.
        normalize_embedding: a norm on the sum of word and position embeddings.
        static_position_embeddings: sinusoids as positions instead of learned ones.
        interleaved: sines and cosines alternate (Vaswani et al., 2017, section 3.5); else sines first.
        position_offset: rows of a learned position table before position 0 (fairseq kept them for padding).
        key_bias: whether the projections to keys have a bias.
        room_named: the field with the number of positions.
    """

    normalize_before: ClassVar[bool] = False
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="d_model", num_attention_heads="encoder_attention_heads", num_hidden_layers="encoder_layers")
    )
    normalize_embedding: ClassVar[bool] = True
    static_position_embeddings: ClassVar[bool] = False
    interleaved: ClassVar[bool] = False
    position_offset: ClassVar[int] = 2
    key_bias: ClassVar[bool] = True
    room_named: ClassVar[str] = "max_position_embeddings"

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation_function)
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % vars(self)[name]:
                raise ModelError(f"d_model={self.d_model} does not divide into {name}={vars(self)[name]}")
        if self.static_position_embeddings and self.d_model % 2:
            raise ModelError(f"d_model={self.d_model}: sines and cosines want an even number")
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ModelError(f"pad_token_id={self.pad_token_id} is not among vocab_size={self.vocab_size} tokens")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "EncoderDecoderConfig":
        """From a published `config.json`; layers that are skipped in training and untied heads are refused."""
        for name in ("encoder_layerdrop", "decoder_layerdrop"):
            if published.get(name):
                raise ModelError(f"{name}={published[name]}: it is not implemented for {cls.model_type}")
        if not published.get("tie_word_embeddings", True):
            raise ModelError(f"tie_word_embeddings is off: only the tied head is implemented for {cls.model_type}")
        return super().from_json(published, **changes)

    @property
    def hidden_size(self) -> int:
        return self.d_model

    @property
    def kernel_init(self) -> Initializer:
        """Initializer of linear layers."""
        return nn.initializers.normal(self.init_std)

    @property
    def embedding_init(self) -> Initializer:
        """Initializer of embeddings."""
        return nn.initializers.normal(self.init_std)

    def empty_cache(self, batch: int, room: int) -> Cache:
        """An empty cache for `room` tokens of each of `batch` texts, without an encoder's output."""
        check_length(self, room)
        heads = self.decoder_attention_heads
        return Cache.empty(self, self.decoder_layers, batch, heads, room, self.d_model // heads)


@dataclasses.dataclass(frozen=True)
class TextEncoderDecoderConfig(EncoderDecoderConfig):
    """Shape of a text-to-text model, with the field names of a published `config.json`.

    Attributes:
        attention_dropout: rate on attention probabilities.
        activation_dropout: rate within feed-forward layers.
        scale_embedding: whether looked-up word embeddings are multiplied by √d_model.
        decoder_start_token_id: first token of the decoder's input.
        forced_eos_token_id: last token of a generated text of the greatest length.
    """

    vocab_size: int = 50_265
    max_position_embeddings: int = 1_024
    d_model: int = 1_024
    encoder_layers: int = 12
    encoder_attention_heads: int = 16
    encoder_ffn_dim: int = 4_096
    decoder_layers: int = 12
    decoder_attention_heads: int = 16
    decoder_ffn_dim: int = 4_096
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def longest_input(self) -> int | None:
        return None if self.static_position_embeddings else self.max_position_embeddings


def check_length(config: ModelConfig, length: int) -> None:
    """Raises `ModelError` if there are more tokens than positions."""
    if config.longest_input is not None and length > config.longest_input:
        raise ModelError(f"{length} tokens do not fit a model with {config.room_named}={config.longest_input}")
