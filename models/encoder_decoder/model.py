"""Encoder-decoder models: word embeddings, encoder, decoder, and heads."""

import abc
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import ModelConfig, ModelError
from models.encoder_decoder.config import check_length
from models.encoder_decoder.inputs import (
    Hidden,
    Ids,
    Mask,
    TargetMask,
    Targets,
    refuse,
    refuse_packed,
    shift_tokens_right,
)
from models.encoder_decoder.stacks import Decoder, Encoder, but_zero
from models.kernels.linear import add_bias, table_scores
from models.layers.attention import Cache
from models.layers.dropout import fold_in
from models.layers.embedding import embedding
from models.layers.vocabulary import VocabularyScores, as_asked, too_many
from models.model import CallSettings, Model
from models.outputs import ModelOutput


class EncoderDecoderBase(Model):
    """Base of all encoder-decoders: encoding into a cache."""

    config: ModelConfig

    def encode(self, input_ids: Ids, attention_mask: Mask | None = None, *, room: int) -> Cache:
        """A cache with the encoder's output and room for `room` tokens of the decoder."""
        cache = self.config.empty_cache(input_ids.shape[0], room)
        return self(input_ids, attention_mask, past_key_values=cache).past_key_values


class EncoderDecoderModel(EncoderDecoderBase):
    """Shared word embeddings, encoder and decoder; base of the architectures' own models.

    Outputs: `last_hidden_state` (batch, targets, hidden) of the decoder; `encoder_last_hidden_state` (batch, length,
    hidden), if the encoder ran; `past_key_values`, the new cache, if one was given; where asked for
    `encoder_hidden_states` and `decoder_hidden_states` (layers + 1, batch, …, hidden), the embeddings first, and
    `encoder_attentions`, `decoder_attentions` and `cross_attentions` (layers, batch, heads, queries, keys).
    """

    def setup(self) -> None:
        config = self.config
        self.shared = embedding(
            config,
            config.vocab_size,
            config.d_model,
            None,
            stddev=config.init_std,
            axis="vocab",
            table_init=but_zero(config.embedding_init, config.pad_token_id),
        )
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def shift(self, input_ids: Ids) -> Ids:
        """The decoder's input for the target `input_ids`."""
        start = self.config.decoder_start_token_id
        if start is None:
            raise ModelError(
                "decoder_input_ids is missing, and the config has no decoder_start_token_id to begin them with"
            )
        return shift_tokens_right(input_ids, self.config.pad_token_id, start)

    def __call__(
        self,
        input_ids: Ids | None = None,
        attention_mask: Mask | None = None,
        decoder_input_ids: Targets | None = None,
        decoder_attention_mask: TargetMask | None = None,
        past_key_values: Cache | None = None,
        segment_ids: Ids | None = None,
        decoder_segment_ids: Targets | None = None,
        **settings: Any,
    ) -> ModelOutput:
        """Without `decoder_input_ids` the decoder's input is `input_ids`, shifted. With `past_key_values` the decoder's tokens
        follow those of the cache, and `decoder_attention_mask` is of the new ones; a cache with an encoder's output replaces
        `input_ids` and `attention_mask`. `segment_ids` and `decoder_segment_ids`, equal within a pair of texts, separate packed
        pairs; positions restart in each. With `input_ids`, `past_key_values` and no `decoder_input_ids`, the encoder's output
        goes into the cache, which is the only output.
        """
        read = {"input_ids": input_ids, "attention_mask": attention_mask}
        refuse(read, decoder_input_ids, past_key_values)
        refuse_packed(segment_ids, decoder_segment_ids, past_key_values)
        call, encoded = CallSettings(**settings), None
        if input_ids is not None:
            words = self.front_end(input_ids, attention_mask, call.folded(3))
            encoded = self.encoder(words, attention_mask, segment_ids, call.folded(0))
        if decoder_input_ids is None and past_key_values is not None:
            cache = self.decoder.remember(encoded.last_hidden_state, attention_mask, past_key_values)
            return ModelOutput(past_key_values=cache)
        if decoder_input_ids is None:
            decoder_input_ids = self.shift(input_ids)
        check_length(self.config, decoder_input_ids.shape[1])
        decoded = self.decoder(
            self.embed(decoder_input_ids),
            decoder_attention_mask,
            decoder_segment_ids,
            None if encoded is None else encoded.last_hidden_state,
            attention_mask,
            segment_ids,
            past_key_values,
            call.folded(1),
        )
        return ModelOutput(**as_asked(self.outputs(decoded, encoded), call.unprojected))

    def outputs(self, decoded: ModelOutput, encoded: ModelOutput | None) -> ModelOutput:
        """The outputs of decoder and encoder, if it ran, by name, and the scores of a head."""
        named = {"hidden_states": "decoder_hidden_states", "attentions": "decoder_attentions"}
        return ModelOutput(
            **self.scores(decoded.last_hidden_state),
            **{named.get(name, name): value for name, value in decoded.items()},
            **{f"encoder_{name}": value for name, value in (encoded or {}).items()},
        )

    def scores(self, hidden: Hidden) -> dict[str, Any]:
        """The outputs of the model's head; none here."""
        return {}

    def front_end(self, inputs: Ids, attention_mask: Mask | None, call: CallSettings) -> Hidden:
        """The input of the encoder's layers: word embeddings here, something else for other modalities."""
        check_length(self.config, inputs.shape[1])
        return self.embed(inputs)

    def embed(self, ids: Ids) -> Hidden:
        """Word embeddings, multiplied by √d_model with `scale_embedding`."""
        words = self.shared(ids)
        return (
            words * jnp.asarray(math.sqrt(self.config.d_model), words.dtype) if self.config.scale_embedding else words
        )

    @property
    def vocabulary_kernel(self) -> Float[Array, "hidden vocab"]:
        """The transposed word embeddings, which score the vocabulary."""
        return self.shared.embedding.T

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return table_scores(hidden, self.shared.embedding)


class EncoderDecoderHead(EncoderDecoderBase):
    """Base of the models with a head. A subclass writes `head`; `base` is the model without it."""

    base: ClassVar[type[EncoderDecoderModel]]

    @nn.compact
    def __call__(
        self,
        input_ids: Ids | None = None,
        attention_mask: Mask | None = None,
        decoder_input_ids: Targets | None = None,
        decoder_attention_mask: TargetMask | None = None,
        past_key_values: Cache | None = None,
        segment_ids: Ids | None = None,
        decoder_segment_ids: Targets | None = None,
        **settings: Any,
    ) -> ModelOutput:
        model = self.base(self.config, name="model")
        read = model(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            past_key_values,
            segment_ids,
            decoder_segment_ids,
            **settings,
        )
        if "last_hidden_state" not in read:
            return read
        keys = fold_in(settings.get("dropout_keys"), 2)
        outputs = self.head(model, read.last_hidden_state, input_ids, keys)
        return ModelOutput(**as_asked(outputs, settings.get("unprojected", False)), **read)

    @abc.abstractmethod
    def head(self, model, hidden, input_ids, keys) -> dict[str, Array]:
        """The outputs beside those of `base`."""


class ConditionalGeneration(EncoderDecoderHead):
    """Output: `logits` (batch, targets, vocab) of the token after each place.

    `final_logits_bias` is published with the weights and added to the scores, but not trained: it gets no gradient.
    """

    generates: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def head(self, model, hidden, input_ids, keys):
        many = too_many(hidden, self.config.vocab_size)
        scores = VocabularyScores(hidden, model.vocabulary_kernel) if many else model.project_to_vocabulary(hidden)
        if not self.biased:
            return dict(logits=scores)
        bias = self.param(
            "final_logits_bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",)),
            (self.config.vocab_size,),
            jnp.dtype(self.config.param_dtype),
        )
        bias = jax.lax.stop_gradient(bias)
        return dict(logits=scores.replace(bias=bias) if many else add_bias(scores, bias))
