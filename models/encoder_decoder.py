"""What BART, mBART, Marian and the Transformer of 2017 share: an encoder that sees a whole text, a decoder that reads it.

Encoder, decoder and the model of both are T5's, too, which has layers, positions and settings of its own.

Vaswani et al.: "Attention Is All You Need", 2017, arXiv 1706.03762. The names of the settings are those of fairseq (Ott et
al., 2019, arXiv 1904.01038), from where they came into published `config.json`s.

A model takes `input_ids` and `decoder_input_ids`. To decode step by step, the encoder is read once, into a cache:

    cache = model.apply(variables, input_ids, attention_mask, room=20, method="encode")
    outputs = model.apply(variables, decoder_input_ids=start, past_key_values=cache)
    outputs = model.apply(variables, decoder_input_ids=token, past_key_values=outputs.past_key_values)
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig, ModelError
from models.kernels.linear import add_bias, matmul
from models.layers.activations import activation
from models.layers.attention import Attention, Cache, attention_pattern
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import Initializer, by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Mask = Int[Array, "batch length"] | Bool[Array, "batch length"]
Targets = Int[Array, "batch targets"]
TargetMask = Int[Array, "batch targets"] | Bool[Array, "batch targets"]
Hidden = Float[Array, "batch length hidden"]

LAYER_NORM_EPSILON = 1e-5
OFFSET = 2
"""Rows of a learned position table that stand before position 0 (fairseq kept them for padding)."""


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig(ModelConfig):
    """Shape of an encoder with a decoder, with the field names of a published `config.json`.

    Attributes:
        attention_dropout: of attention probabilities.
        activation_dropout: inside the feed-forward layers.
        scale_embedding: whether word embeddings are multiplied by √d_model where they are looked up.
        decoder_start_token_id: what a decoder's input begins with.
        forced_eos_token_id: the last token of a text that is as long as it may be, in generation.

    What an architecture is, rather than a shape of it:

        normalize_before: norms before attention and feed-forward layers and one at the end; else behind what they add to.
        normalize_embedding: a norm on the sum of word and position embeddings.
        static_position_embeddings: sinusoids as positions instead of learned ones.
        interleaved: sines and cosines alternate (Vaswani et al., 2017, section 3.5); else sines first.
    """

    normalize_before: ClassVar[bool] = False
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="d_model", num_attention_heads="encoder_attention_heads", num_hidden_layers="encoder_layers")
    )
    normalize_embedding: ClassVar[bool] = True
    static_position_embeddings: ClassVar[bool] = False
    interleaved: ClassVar[bool] = False

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
    def longest_input(self) -> int | None:
        return None if self.static_position_embeddings else self.max_position_embeddings

    @property
    def kernel_init(self) -> Initializer:
        """How the kernels of linear layers begin."""
        return nn.initializers.normal(self.init_std)

    @property
    def embedding_init(self) -> Initializer:
        """How embeddings begin."""
        return nn.initializers.normal(self.init_std)

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` decoded texts; no encoder was read yet."""
        check_length(self, room)
        heads = self.decoder_attention_heads
        return Cache.empty(self, self.decoder_layers, batch, heads, room, self.d_model // heads)


def check_length(config: ModelConfig, length: int) -> None:
    """Raise where so many tokens have no positions."""
    if config.longest_input is not None and length > config.longest_input:
        raise ModelError(f"{length} tokens do not fit a model with max_position_embeddings={config.longest_input}")


def refuse(input_ids, attention_mask, decoder_input_ids, cache, segment_ids, decoder_segment_ids) -> None:
    """Raise where these inputs of a model do not go together."""
    was_read = cache is not None and cache.memory_keys is not None
    if was_read and (input_ids is not None or attention_mask is not None):
        raise ModelError("past_key_values holds what the encoder read: leave out input_ids and attention_mask")
    if input_ids is None and not was_read:
        raise ModelError("input_ids is missing, and past_key_values holds no encoder's output that would stand for it")
    if decoder_input_ids is None and input_ids is None:
        raise ModelError("decoder_input_ids is missing: with past_key_values it must say what comes next")
    if (segment_ids is None) != (decoder_segment_ids is None):
        raise ModelError("segment_ids and decoder_segment_ids belong together: give both or neither")
    if segment_ids is not None and cache is not None:
        raise ModelError("segment_ids keep packed texts apart, which past_key_values cannot hold: give one of them")


def shift_tokens_right(ids: Ids, padding: int | None, start: int | Int[Array, " batch"]) -> Ids:
    """`start` and all of `ids` but the last: what a decoder is given that is to write `ids`; labels of -100 are `padding`,
    where there is such a token."""
    first = jnp.broadcast_to(jnp.asarray(start, ids.dtype), ids.shape[:1])[:, None]
    shifted = jnp.concatenate([first, ids[:, :-1]], axis=1)
    return shifted if padding is None else jnp.where(shifted < 0, padding, shifted)


def places_within(segment_ids: Ids) -> Ids:
    """The place of each token in its segment: as many as stand between it and the last change of `segment_ids`."""
    places = jnp.arange(segment_ids.shape[1])[None]
    begins = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return places - jax.lax.cummax(jnp.where(begins, places, 0), axis=1)


def sinusoids(positions: int, features: int, interleaved: bool) -> Float[np.ndarray, "positions features"]:
    """PE(p, 2i) = sin(p / 10000^(2i / features)), PE(p, 2i + 1) = cos of the same (Vaswani et al., 2017, section 3.5).

    Computed in float64: a float32 angle would be wrong by 6e-5 at position 1,000. Unless `interleaved` all sines come first.
    """
    angles = np.arange(positions)[:, None] / 10_000.0 ** (2 * np.arange(features // 2) / features)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2 if interleaved else 1)
    return pairs.reshape(positions, features).astype(np.float32)


def but_zero(init: Initializer, row: int | None) -> Initializer:
    """`init`, and 0 in one row: that of padding, where there is one."""
    return init if row is None else lambda key, shape, dtype: init(key, shape, dtype).at[row].set(0)


# ── Layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def attention(config: EncoderDecoderConfig, heads: int, name: str) -> Attention:
    inits = FrozenDict(dict.fromkeys(("query", "key", "value", "out"), config.kernel_init))
    return Attention(config, config.d_model, heads, config.attention_dropout, inits=inits, name=name)


def feed_forward(config: EncoderDecoderConfig, width: int, hidden: Hidden, keys: Keys) -> tuple[Hidden]:
    """down(dropout(activation(up(x)))): the second kind of sub-layer, which returns nothing beside."""
    inner = dense(config, width, "up", ("embed", "mlp"), kernel_init=config.kernel_init)(hidden)
    inner = dropout(activation(config.activation_function)(inner), config.activation_dropout, keys)
    return (dense(config, config.d_model, "down", ("mlp", "embed"), kernel_init=config.kernel_init)(inner),)


def residual(config: EncoderDecoderConfig, hidden: Hidden, sublayer, name: str, keys: Keys) -> tuple:
    """LN(x + f(x)), or x + f(LN(x)) where norms come before; and what else `sublayer` returns. The norm is called `name`."""
    norm = layer_norm(config, LAYER_NORM_EPSILON, name)
    added, *more = sublayer(norm(hidden) if config.normalize_before else hidden)
    hidden += dropout(added, config.dropout, keys)
    return hidden if config.normalize_before else norm(hidden), *more


class EncoderLayer(nn.Module):
    """Attention to all of the text, then a feed-forward layer."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], shared):
        config = self.config
        mask, _, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        attend = attention(config, config.encoder_attention_heads, "attention")
        hidden, probabilities, _ = residual(
            config, hidden, lambda x: attend(x, mask, fold_in(keys, 0)), "attention_norm", fold_in(keys, 1)
        )
        (hidden,) = residual(
            config,
            hidden,
            lambda x: feed_forward(config, config.encoder_ffn_dim, x, fold_in(keys, 2)),
            "mlp_norm",
            fold_in(keys, 3),
        )
        return hidden, (hidden, probabilities)


class DecoderLayer(nn.Module):
    """Attention to what was written before, attention to what the encoder read, then a feed-forward layer."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, hidden: Hidden, own, shared):
        config = self.config
        index, cache, memory_cache = own
        mask, _, cached, memory, memory_mask, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        attend = attention(config, config.decoder_attention_heads, "attention")
        read = attention(config, config.decoder_attention_heads, "cross_attention")
        hidden, probabilities, cache = residual(
            config,
            hidden,
            lambda x: attend(x, mask, fold_in(keys, 0), cache=cache, cached=cached),
            "attention_norm",
            fold_in(keys, 1),
        )
        hidden, cross_probabilities, memory_cache = residual(
            config,
            hidden,
            lambda x: read(x, memory_mask, fold_in(keys, 2), memory=memory, cache=memory_cache),
            "cross_attention_norm",
            fold_in(keys, 3),
        )
        (hidden,) = residual(
            config,
            hidden,
            lambda x: feed_forward(config, config.decoder_ffn_dim, x, fold_in(keys, 4)),
            "mlp_norm",
            fold_in(keys, 5),
        )
        caches = None if cached is None else (cache, memory_cache)
        return hidden, (hidden, probabilities, cross_probabilities, caches)


# ── Encoder and decoder ──────────────────────────────────────────────────────────────────────────────────────────────


class Stack(nn.Module):
    """Base of encoder and decoder: positions, layers, and the norms before and behind them.

    A layer gets, besides its number and its caches, what is the same for all: the mask, `position_bias`, in a decoder the
    places filled in the cache, the memory and its mask, and the keys of dropout.
    """

    config: ModelConfig
    layer: ClassVar[type[nn.Module]]

    @property
    def count(self) -> int:
        """How many layers there are."""
        raise NotImplementedError

    def setup(self) -> None:
        config = self.config
        if not config.static_position_embeddings:
            self.position_embeddings = embedding(
                config,
                config.max_position_embeddings + OFFSET,
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
        """`words` at their `positions`, ready for the layers; `room` is the number of positions there may be."""
        config = self.config
        if config.static_position_embeddings:
            table = sinusoids(room, config.d_model, config.interleaved)
            embedded = words + jnp.asarray(table)[positions]
        else:
            embedded = words + self.position_embeddings(positions + OFFSET)
        embedded = by_example(embedded.astype(config.compute_dtype))
        if config.normalize_embedding:
            embedded = self.embedding_norm(embedded)
        return dropout(embedded, config.dropout, fold_in(dropout_keys, self.count))

    def position_bias(
        self, queries: int, keys: int, first: int | Int[Array, ""]
    ) -> Float[Array, "1 heads queries keys"] | None:
        """What is added to the scores of attention by the places of queries, from `first` on, and keys."""
        return None

    def last(self, hidden: Hidden, dropout_keys: Keys) -> Hidden:
        """What comes behind the layers."""
        return self.norm(hidden) if self.config.normalize_before else hidden

    def finish(
        self,
        embedded: Hidden,
        hidden: Hidden,
        states: Float[Array, "layers batch length hidden"],
        asked: bool,
        dropout_keys: Keys,
    ) -> dict[str, Array | None]:
        """The last hidden state, and where `asked` all: the embeddings first, the last one normalised."""
        hidden = self.last(hidden, dropout_keys)
        states = jnp.concatenate([embedded[None], states[:-1], hidden[None]]) if asked else None
        return dict(last_hidden_state=hidden, hidden_states=states)


class Encoder(Stack):
    """Reads a whole text."""

    layer: ClassVar[type[nn.Module]] = EncoderLayer

    @property
    def count(self) -> int:
        return self.config.encoder_layers

    def __call__(
        self,
        words: Hidden,
        attention_mask: Mask | None,
        segment_ids: Ids | None,
        *,
        dropout_keys: Keys,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> ModelOutput:
        length = words.shape[1]
        positions = jnp.arange(length)[None] if segment_ids is None else places_within(segment_ids)
        embedded = self.embed(words, dropout_keys, positions, length)
        mask = attention_pattern(length, attention_mask, segment_ids=segment_ids)
        shared = mask, self.position_bias(length, length, 0), dropout_keys
        hidden, (states, attentions) = self.layers(embedded, jnp.arange(self.count), shared)
        return ModelOutput(
            **self.finish(embedded, hidden, states, output_hidden_states, dropout_keys),
            attentions=attentions if output_attentions else None,
        )


class Decoder(Stack):
    """Writes a text from left to right, looking at what the encoder read."""

    layer: ClassVar[type[nn.Module]] = DecoderLayer

    @property
    def count(self) -> int:
        return self.config.decoder_layers

    def __call__(
        self,
        words: Hidden,
        decoder_attention_mask: Mask | None,
        segment_ids: Ids | None,
        memory: Float[Array, "batch memory hidden"] | None,
        memory_mask: Int[Array, "batch memory"] | Bool[Array, "batch memory"] | None,
        memory_segment_ids: Int[Array, "batch memory"] | None,
        past_key_values: Cache | None,
        *,
        dropout_keys: Keys,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> ModelOutput:
        """With `past_key_values` the tokens come behind those of the cache; `memory` is read where that has none."""
        length = room = words.shape[1]
        cache, first, cached, caches, memory_caches = past_key_values, 0, None, None, None
        if cache is not None:
            first = cached = cache.length
            caches = cache.keys, cache.values
            if cache.memory_keys is None:
                filled = jnp.ones(memory.shape[:2], bool) if memory_mask is None else memory_mask > 0
                cache = cache.replace(memory_mask=filled)
            else:
                memory_caches = cache.memory_keys, cache.memory_values
            cache = cache.reading(decoder_attention_mask, length)
            decoder_attention_mask, memory_mask, room = cache.mask, cache.memory_mask, cache.mask.shape[1]
        mask = attention_pattern(length, decoder_attention_mask, causal=True, segment_ids=segment_ids, first=first)
        memory_mask = attention_pattern(length, memory_mask)
        if segment_ids is not None:
            same = (segment_ids[:, :, None] == memory_segment_ids[:, None, :])[:, None]
            memory_mask = same if memory_mask is None else memory_mask & same
        positions = jnp.arange(length)[None] + first if segment_ids is None else places_within(segment_ids)
        embedded = self.embed(words, dropout_keys, positions, room)
        own = jnp.arange(self.count), caches, memory_caches
        shared = mask, self.position_bias(length, room, first), cached, memory, memory_mask, dropout_keys
        hidden, (states, attentions, cross_attentions, caches) = self.layers(embedded, own, shared)
        if cache is not None:
            (keys, values), (memory_keys, memory_values) = caches
            cache = cache.replace(keys=keys, values=values, memory_keys=memory_keys, memory_values=memory_values)
        return ModelOutput(
            **self.finish(embedded, hidden, states, output_hidden_states, dropout_keys),
            attentions=attentions if output_attentions else None,
            cross_attentions=cross_attentions if output_attentions else None,
            past_key_values=cache,
        )


# ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Reader(Model):
    """Base of all models here: what reads a text into a cache."""

    config: ModelConfig

    def encode(self, input_ids: Ids, attention_mask: Mask | None = None, *, room: int) -> Cache:
        """A cache that holds what the encoder made of a text, and has room for `room` tokens that are still to be written.

        The decoder reads no token yet: it makes the keys and values of its attention to the encoder, and nothing else.
        """
        batch = input_ids.shape[0]
        cache = self.config.empty_cache(batch, room)
        nothing = jnp.zeros((batch, 0), input_ids.dtype)
        return self(input_ids, attention_mask, nothing, past_key_values=cache).past_key_values


class EncoderDecoderModel(Reader):
    """Shared word embeddings, encoder and decoder; base of the architectures' own models.

    Outputs: `last_hidden_state` (batch, targets, hidden) of the decoder; `encoder_last_hidden_state` (batch, length,
    hidden), where the encoder ran; `past_key_values`, the new cache, where one was given; where asked for
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
        """What the decoder is given that is to write `input_ids`."""
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
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Without `decoder_input_ids` the decoder is given `input_ids`, shifted. With `past_key_values` its tokens come
        behind those of the cache, `decoder_attention_mask` being theirs; a cache that holds an encoder's output stands
        for `input_ids` and `attention_mask`. `segment_ids` and `decoder_segment_ids`, equal within a pair of texts, keep
        packed pairs apart; positions begin anew in each.
        """
        refuse(input_ids, attention_mask, decoder_input_ids, past_key_values, segment_ids, decoder_segment_ids)
        if decoder_input_ids is None:
            decoder_input_ids = self.shift(input_ids)
        asked = dict(output_hidden_states=output_hidden_states, output_attentions=output_attentions)
        encoded = None
        if input_ids is not None:
            check_length(self.config, input_ids.shape[1])
            encoded = self.encoder(
                self.embed(input_ids), attention_mask, segment_ids, dropout_keys=fold_in(dropout_keys, 0), **asked
            )
        check_length(self.config, decoder_input_ids.shape[1])
        decoded = self.decoder(
            self.embed(decoder_input_ids),
            decoder_attention_mask,
            decoder_segment_ids,
            None if encoded is None else encoded.last_hidden_state,
            attention_mask,
            segment_ids,
            past_key_values,
            dropout_keys=fold_in(dropout_keys, 1),
            **asked,
        )
        named = {"hidden_states": "decoder_hidden_states", "attentions": "decoder_attentions"}
        return ModelOutput(
            **self.scores(decoded.last_hidden_state),
            **{named.get(name, name): value for name, value in decoded.items()},
            **{f"encoder_{name}": value for name, value in (encoded or {}).items()},
        )

    def scores(self, hidden: Hidden) -> dict[str, Array]:
        """What a head makes of the last hidden state, where the model has one of its own."""
        return {}

    def embed(self, ids: Ids) -> Hidden:
        """Word embeddings, multiplied by √d_model where the config says so."""
        words = self.shared(ids)
        return (
            words * jnp.asarray(math.sqrt(self.config.d_model), words.dtype) if self.config.scale_embedding else words
        )

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return matmul(hidden, self.shared.embedding.T)


class EncoderDecoderHead(Reader):
    """Base of the models with a head, which differ in `head`; `base` is the model below it."""

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
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
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
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        return ModelOutput(**self.head(model, read.last_hidden_state, input_ids, fold_in(dropout_keys, 2)), **read)

    @abc.abstractmethod
    def head(self, model, hidden, input_ids, keys) -> dict[str, Array]:
        """The outputs beside those of the model below."""


class ConditionalGeneration(EncoderDecoderHead):
    """Output: `logits` (batch, targets, vocab) of the token after each place.

    `final_logits_bias` is published with the weights and added to the scores, but not trained: it gets no gradient.
    """

    generates: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def head(self, model, hidden, input_ids, keys):
        logits = model.project_to_vocabulary(hidden)
        if not self.biased:
            return dict(logits=logits)
        bias = self.param(
            "final_logits_bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",)),
            (self.config.vocab_size,),
            jnp.dtype(self.config.param_dtype),
        )
        return dict(logits=add_bias(logits, jax.lax.stop_gradient(bias)))
