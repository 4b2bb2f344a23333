"""What GPT-2 and Llama have in common: a decoder that sees what stands before each place, and the heads behind it."""

import abc
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.config import ModelConfig
from models.kernels.linear import table_scores
from models.layers.attention import Cache, attention_pattern, has_kernel
from models.layers.dropout import Keys
from models.layers.embedding import last_token
from models.layers.linear import dense
from models.layers.vocabulary import VocabularyScores, as_asked, too_many
from models.model import CallSettings, Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]


class DecoderModel(Model):
    """Embeddings and decoder; a subclass sets up `word_embeddings`, `layers` and `norm`, and writes `embed`.

    Outputs: `last_hidden_state` (batch, length, hidden); `past_key_values`, the new cache, where one was given;
    `hidden_states` (layers + 1, batch, length, hidden), the embeddings first and the last one normalised, and
    `attentions` (layers, batch, heads, length, keys) where asked for.
    """

    causal: ClassVar[bool] = True

    config: ModelConfig

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        **settings: Any,
    ) -> ModelOutput:
        """`segment_ids`, equal within a document, separate packed documents; `prefix_mask` marks a prefix that is read in
        both directions. With `past_key_values` the tokens come behind those of the cache; `attention_mask` is of the new ones.
        """
        call, length, cache = CallSettings(**settings), input_ids.shape[1], past_key_values
        first, layer_caches = None, None
        if cache is not None:
            first, layer_caches = cache.length, (cache.keys, cache.values)
            cache = cache.reading(attention_mask, length)
            attention_mask = cache.mask
        place = 0 if first is None else first
        mask = attention_pattern(
            length,
            attention_mask,
            causal=True,
            segment_ids=segment_ids,
            prefix_mask=prefix_mask,
            first=place,
            by_parts=has_kernel(self.config, cache=cache, probabilities=call.output_attentions),
        )
        position_ids = jnp.arange(length)[None] + place if position_ids is None else position_ids
        embedded, rotary = self.embed(input_ids, position_ids, call.dropout_keys)
        per_layer = jnp.arange(self.config.num_hidden_layers), layer_caches
        hidden, (states, attentions, caches) = self.layers(
            embedded, per_layer, (mask, first, rotary, call.dropout_keys)
        )
        hidden = self.norm(hidden)
        return ModelOutput(
            last_hidden_state=hidden,
            past_key_values=None if cache is None else cache.replace(keys=caches[0], values=caches[1]),
            **call.asked(embedded, states, attentions, last=hidden),
        )

    @abc.abstractmethod
    def embed(self, input_ids: Ids, position_ids: Int[Array, "#batch length"], keys: Keys) -> tuple[Hidden, Any]:
        """What the layers begin with, and what rotary positions turn queries and keys by (`None` without)."""

    @property
    def vocabulary_kernel(self) -> Float[Array, "hidden vocab"]:
        """What scores every token: the transposed word embeddings."""
        return self.word_embeddings.embedding.T

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return table_scores(hidden, self.word_embeddings.embedding)


class DecoderHead(Model):
    """Base of the models with a head, which differ in `head`.

    Attributes:
        base: the model below the head.
        base_name: what it is called among the parameters.
    """

    causal: ClassVar[bool] = True
    base: ClassVar[type[DecoderModel]]
    base_name: ClassVar[str]

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        **settings: Any,
    ) -> ModelOutput:
        decoder = self.base(self.config, name=self.base_name)
        decoded = decoder(
            input_ids, attention_mask, position_ids, segment_ids, prefix_mask, past_key_values, **settings
        )
        outputs = dict(logits=self.head(decoder, decoded.last_hidden_state, input_ids, attention_mask))
        return ModelOutput(**as_asked(outputs, settings.get("unprojected", False)), **decoded)

    @abc.abstractmethod
    def head(self, decoder, hidden, input_ids, attention_mask) -> Array | VocabularyScores:
        """The logits; of a vocabulary, where they are many, what they are computed from."""

    def project(
        self, name: str, outputs: int, axis: str, hidden: Float[Array, "*shape hidden"], unprojected: bool = False
    ) -> Array | VocabularyScores:
        """A linear layer without bias."""
        normal = nn.initializers.normal(self.config.initializer_range)
        return dense(self.config, outputs, name, ("embed", axis), bias=False, kernel_init=normal)(hidden, unprojected)


class LanguageModel(DecoderHead):
    """Output: `logits` (batch, length, vocab) of the token after each place."""

    generates: ClassVar[bool] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        many = too_many(hidden, self.config.vocab_size)
        if self.config.tie_word_embeddings and many:
            return VocabularyScores(hidden, decoder.vocabulary_kernel)
        if self.config.tie_word_embeddings:
            return decoder.project_to_vocabulary(hidden)
        return self.project("lm_head", self.config.vocab_size, "vocab", hidden, many)


class SequenceClassifier(DecoderHead):
    """Output: `logits` (batch, labels), read at the last token that is not padding, by `pad_token_id` and `attention_mask`."""

    labelled: ClassVar[bool | None] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        place = last_token(input_ids, self.config.pad_token_id, attention_mask)
        last = jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]
        return self.project("score", len(self.config.labels), "head_out", last)
