"""The stacks of encoder and decoder: positions, layers, and the norms before and after them."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig
from models.encoder_decoder.inputs import Hidden, Ids, Mask, places_within
from models.encoder_decoder.layers import LAYER_NORM_EPSILON, DecoderLayer, EncoderLayer
from models.kernels.masks import AttentionMask
from models.layers.attention import Cache, attention_pattern, has_kernel
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import Initializer, by_example
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import CallSettings
from models.outputs import ModelOutput


def sinusoids(positions: int, features: int, interleaved: bool) -> Float[np.ndarray, "positions features"]:
    """PE(p, 2i) = sin(p / 10000^(2i / features)), PE(p, 2i + 1) = cos of the same (Vaswani et al., 2017, section 3.5).

    Computed in float64: a float32 angle would be wrong by 6e-5 at position 1,000. Unless `interleaved` all sines come first.
    """
    angles = np.arange(positions)[:, None] / 10_000.0 ** (2 * np.arange(features // 2) / features)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2 if interleaved else 1)
    return pairs.reshape(positions, features).astype(np.float32)


def but_zero(init: Initializer, row: int | None) -> Initializer:
    """`init` with zeros in the row of the padding token, if there is one."""
    return init if row is None else lambda key, shape, dtype: init(key, shape, dtype).at[row].set(0)


def whole(memory: Hidden, mask: Mask | None) -> Bool[Array, "batch length"]:
    """The mask of the encoder's output; all places if none is given."""
    return jnp.ones(memory.shape[:2], bool) if mask is None else mask > 0


class Stack(nn.Module):
    """Base of encoder and decoder: positions, layers, and the norms before and after them.

    Beside its number and its caches a layer gets what all layers share: the mask, `position_bias`, dropout keys, and in a
    decoder the length of the cache, the encoder's output and its mask.
    """

    config: ModelConfig
    layer: ClassVar[type[nn.Module]]

    @property
    def count(self) -> int:
        """Number of layers."""
        raise NotImplementedError

    def setup(self) -> None:
        config = self.config
        if not config.static_position_embeddings:
            self.position_embeddings = embedding(
                config,
                config.longest_input + config.position_offset,
                config.d_model,
                None,
                stddev=config.init_std,
                axis="position",
                table_init=config.embedding_init,
            )
        if config.normalize_embedding:
            self.embedding_norm = layer_norm(config, LAYER_NORM_EPSILON, None)
        self.layers = stack(self.layer, config, self.count, None)
        if config.normalize_before:
            self.norm = layer_norm(config, LAYER_NORM_EPSILON, None)

    def embed(self, words: Hidden, dropout_keys: Keys, positions: Int[Array, "#batch length"], room: int) -> Hidden:
        """The input of the layers: `words` with their `positions`, of which there are at most `room`."""
        config = self.config
        if config.static_position_embeddings:
            table = sinusoids(room, config.d_model, config.interleaved)
            embedded = words + jnp.asarray(table)[positions]
        else:
            embedded = words + self.position_embeddings(positions + config.position_offset)
        embedded = by_example(embedded.astype(config.compute_dtype))
        if config.normalize_embedding:
            embedded = self.embedding_norm(embedded)
        return dropout(embedded, config.dropout, fold_in(dropout_keys, self.count))

    def position_bias(
        self, queries: int, keys: int, first: int | Int[Array, ""]
    ) -> Float[Array, "1 heads queries keys"] | None:
        """The bias of attention scores by the positions of keys and of queries, which begin at `first`."""
        return None

    def last(self, hidden: Hidden, dropout_keys: Keys) -> Hidden:
        """The norm after the layers, if there is one."""
        return self.norm(hidden) if self.config.normalize_before else hidden

    def finish(
        self,
        embedded: Hidden,
        hidden: Hidden,
        states: Float[Array, "layers batch length hidden"],
        attentions: Array | None,
        call: CallSettings,
    ) -> dict[str, Array | None]:
        """The last hidden state, and other outputs that were asked for."""
        hidden = self.last(hidden, call.dropout_keys)
        return dict(last_hidden_state=hidden, **call.asked(embedded, states, attentions, last=hidden))


class Encoder(Stack):
    """The encoder."""

    layer: ClassVar[type[nn.Module]] = EncoderLayer

    @property
    def count(self) -> int:
        return self.config.encoder_layers

    def __call__(
        self,
        words: Hidden,
        attention_mask: Mask | None,
        segment_ids: Ids | None,
        call: CallSettings,
    ) -> ModelOutput:
        length = words.shape[1]
        positions = jnp.arange(length)[None] if segment_ids is None else places_within(segment_ids)
        embedded = self.embed(words, call.dropout_keys, positions, length)
        by_parts = has_kernel(self.config, probabilities=call.output_attentions)
        mask = attention_pattern(length, attention_mask, segment_ids=segment_ids, by_parts=by_parts)
        shared = mask, self.position_bias(length, length, 0), call.dropout_keys
        hidden, (states, attentions) = self.layers(embedded, jnp.arange(self.count), shared)
        return ModelOutput(**self.finish(embedded, hidden, states, attentions, call))


class Decoder(Stack):
    """The decoder, with causal self-attention and cross-attention to the encoder's output."""

    layer: ClassVar[type[nn.Module]] = DecoderLayer

    @property
    def count(self) -> int:
        return self.config.decoder_layers

    def remember(
        self,
        memory: Float[Array, "batch memory hidden"],
        memory_mask: Int[Array, "batch memory"] | Bool[Array, "batch memory"] | None,
        cache: Cache,
    ) -> Cache:
        """The cache with the cross-attention's keys and values of the encoder's output; no token is decoded."""
        shared = None, None, None, memory, None, None
        _, (keys, values) = self.layers(None, (jnp.arange(self.count), None, None), shared)
        return cache.replace(memory_keys=keys, memory_values=values, memory_mask=whole(memory, memory_mask))

    def positions(self, length: int, mask: Mask | None, first: int | Int[Array, ""]) -> Int[Array, "#batch new"]:
        """Those of `length` tokens, the first of them at place `first` of those that `mask` is about: their places."""
        return jnp.arange(length)[None] + first

    def __call__(
        self,
        words: Hidden,
        decoder_attention_mask: Mask | None,
        segment_ids: Ids | None,
        memory: Float[Array, "batch memory hidden"] | None,
        memory_mask: Int[Array, "batch memory"] | Bool[Array, "batch memory"] | None,
        memory_segment_ids: Int[Array, "batch memory"] | None,
        past_key_values: Cache | None,
        call: CallSettings,
    ) -> ModelOutput:
        """With `past_key_values` the tokens follow those of the cache; `memory` is used if the cache has none."""
        length = room = words.shape[1]
        cache, first, filled, caches, memory_caches = past_key_values, 0, None, None, None
        if cache is not None:
            first = filled = cache.length
            caches = cache.keys, cache.values
            if cache.memory_keys is None:
                cache = cache.replace(memory_mask=whole(memory, memory_mask))
            else:
                memory_caches = cache.memory_keys, cache.memory_values
            cache = cache.reading(decoder_attention_mask, length)
            decoder_attention_mask, memory_mask, room = cache.mask, cache.memory_mask, cache.mask.shape[1]
        by_parts = has_kernel(self.config, cache=cache, probabilities=call.output_attentions)
        mask = attention_pattern(
            length, decoder_attention_mask, causal=True, segment_ids=segment_ids, first=first, by_parts=by_parts
        )
        segments = None if segment_ids is None else (segment_ids, memory_segment_ids)
        memory_mask = AttentionMask(memory_mask, segments)
        memory_mask = memory_mask if by_parts else memory_mask.array(length, length)
        positions = self.positions(length, decoder_attention_mask, first)
        positions = positions if segment_ids is None else places_within(segment_ids)
        embedded = self.embed(words, call.dropout_keys, positions, room)
        per_layer = jnp.arange(self.count), caches, memory_caches
        shared = mask, self.position_bias(length, room, first), filled, memory, memory_mask, call.dropout_keys
        hidden, (states, attentions, cross_attentions, caches) = self.layers(embedded, per_layer, shared)
        if cache is not None:
            (keys, values), (memory_keys, memory_values) = caches
            cache = cache.replace(keys=keys, values=values, memory_keys=memory_keys, memory_values=memory_values)
        return ModelOutput(
            **self.finish(embedded, hidden, states, attentions, call),
            cross_attentions=cross_attentions if call.output_attentions else None,
            past_key_values=cache,
        )
