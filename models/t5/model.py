"""The layers, the models and the heads of T5."""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.encoder_decoder.inputs import Hidden, Ids, Mask
from models.encoder_decoder.model import EncoderDecoderModel
from models.encoder_decoder.stacks import Decoder, Encoder, Stack
from models.kernels.linear import table_scores
from models.kernels.precision import widened
from models.layers.activations import activation, gated
from models.layers.attention import Attention, LayerCache
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import by_example, dense
from models.layers.norm import rms_norm
from models.layers.stack import stack
from models.layers.vocabulary import VocabularyScores, too_many
from models.model import CallSettings, Model
from models.outputs import ModelOutput
from models.t5.config import T5Config

# ── Relative positions ───────────────────────────────────────────────────────────────────────────────────────────────


def relative_position_bucket(
    distance: Int[Array, " distances"], *, bidirectional: bool, buckets: int, max_distance: int
) -> Int[Array, " distances"]:
    """Number of the bucket of each distance, the place of a key less that of its query (Raffel et al., section 2.1).

    Small distances have a bucket each, larger ones share buckets that grow like their logarithm, and all from
    `max_distance` on have one. Where `bidirectional`, half of the buckets are for keys behind the query; otherwise those
    count as being at its own place.
    """
    if not bidirectional:
        return _one_way(jnp.maximum(-distance, 0), buckets, max_distance)
    behind = jnp.where(distance > 0, buckets // 2, 0)
    return behind + _one_way(jnp.abs(distance), buckets // 2, max_distance)


def _one_way(distance: Int[Array, " distances"], buckets: int, max_distance: int) -> Int[Array, " distances"]:
    """Buckets of distances of at least 0: looked up in what the host computes, as chips differ in their logarithms."""
    exact, distances = buckets // 2, np.arange(max_distance + 1)
    growth = np.log(np.maximum(distances, 1).astype(np.float32) / exact) / np.float32(math.log(max_distance / exact))
    far = np.minimum(exact + (growth * (buckets - exact)).astype(np.int32), buckets - 1)
    return jnp.asarray(np.where(distances < exact, distances, far), jnp.int32)[jnp.minimum(distance, max_distance)]


def by_query_and_key(
    values: Float[Array, "heads distances"], queries: int, keys: int
) -> Float[Array, "1 heads queries keys"]:
    """`values` of the distances 1 - queries … keys - 1, laid out by query and key: without a gather, its gradient without
    a scatter. Rows as long as there are distances, cut from copies that are one longer, move on by one each.
    """
    heads, distances = values.shape
    # From distance 0 on, then what stands between two copies, then the negative distances.
    row = jnp.concatenate([values[:, queries - 1 :], jnp.zeros((heads, 1)), values[:, : queries - 1]], axis=1)
    rows = jnp.broadcast_to(row[:, None], (heads, queries, distances + 1)).reshape(heads, -1)
    return rows[:, : queries * distances].reshape(1, heads, queries, distances)[..., :keys]


class RelativePositions(nn.Module):
    """What each head adds to the scores of keys by their distance from the query; all layers of a stack share it."""

    config: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(self, queries: int, keys: int, first: int | Int[Array, ""]) -> Float[Array, "1 heads queries keys"]:
        """For `queries` of which the first has the place `first` among the `keys`."""
        config = self.config
        buckets = config.relative_attention_num_buckets
        table = self.param(
            "embedding",
            nn.with_logical_partitioning(config.initial(config.d_model), ("bucket", "head")),
            (buckets, config.num_heads),
            jnp.dtype(config.param_dtype),
        )
        bucket = relative_position_bucket(
            jnp.arange(1 - queries, keys) - first,
            bidirectional=self.bidirectional,
            buckets=buckets,
            max_distance=config.relative_attention_max_distance,
        )
        return by_query_and_key(widened(table[bucket].T), queries, keys)


# ── Layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def attention(config: T5Config, name: str) -> Attention:
    """Attention without biases and without a scale, which the initial queries have in them."""
    width = config.num_heads * config.d_kv
    inits = FrozenDict(
        query=config.initial(config.d_model * config.d_kv),
        key=config.initial(config.d_model),
        value=config.initial(config.d_model),
        out=config.initial(width),
    )
    return Attention(
        config,
        config.d_model,
        config.num_heads,
        config.dropout_rate,
        head_dim=config.d_kv,
        bias=False,
        scale=1.0,
        inits=inits,
        name=name,
    )


def feed_forward(config: T5Config, hidden: Hidden, keys: Keys) -> Hidden:
    """down(dropout(activation(up(x)))); where gated, down(dropout(activation(gate(x)) · linear(x)))."""

    def project(features: int, name: str, axes: tuple[str, str], x: Array) -> Array:
        return dense(config, features, name, axes, bias=False, kernel_init=config.initial(x.shape[-1]))(x)

    inner = project(config.d_ff, "gate" if config.gated else "up", ("embed", "mlp"), hidden)
    if config.gated:
        inner = gated(config.activation, inner, project(config.d_ff, "linear", ("embed", "mlp"), hidden))
    else:
        inner = activation(config.activation)(inner)
    return project(config.d_model, "down", ("mlp", "embed"), dropout(inner, config.dropout_rate, keys))


class T5EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    config: T5Config

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], shared):
        config = self.config
        mask, position_bias, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        normed = rms_norm(config, config.layer_norm_epsilon, "attention_norm")(hidden)
        attended, probabilities, _ = attention(config, "attention")(
            normed, mask, fold_in(keys, 0), position_bias=position_bias
        )
        hidden += dropout(attended, config.dropout_rate, fold_in(keys, 1))
        normed = rms_norm(config, config.layer_norm_epsilon, "mlp_norm")(hidden)
        hidden += dropout(feed_forward(config, normed, fold_in(keys, 2)), config.dropout_rate, fold_in(keys, 3))
        return hidden, (hidden, probabilities)


class T5DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + attention to what the encoder read, then x + MLP(norm(x)); without an x, the keys and
    values of what the encoder read."""

    config: T5Config

    @nn.compact
    def __call__(self, hidden: Hidden | None, per_layer, shared):
        config = self.config
        index, cache, memory_cache = per_layer
        mask, position_bias, filled, memory, memory_mask, dropout_keys = shared
        if hidden is None:
            return None, attention(config, "cross_attention")(None, None, memory=memory)[2]
        keys = fold_in(dropout_keys, index)
        normed = rms_norm(config, config.layer_norm_epsilon, "attention_norm")(hidden)
        attended, probabilities, cache = attention(config, "attention")(
            normed, mask, fold_in(keys, 0), position_bias=position_bias, cache=LayerCache.of(cache, filled)
        )
        hidden += dropout(attended, config.dropout_rate, fold_in(keys, 1))
        normed = rms_norm(config, config.layer_norm_epsilon, "cross_attention_norm")(hidden)
        attended, cross_probabilities, memory_cache = attention(config, "cross_attention")(
            normed, memory_mask, fold_in(keys, 2), memory=memory, cache=LayerCache.of(memory_cache)
        )
        hidden += dropout(attended, config.dropout_rate, fold_in(keys, 3))
        normed = rms_norm(config, config.layer_norm_epsilon, "mlp_norm")(hidden)
        hidden += dropout(feed_forward(config, normed, fold_in(keys, 4)), config.dropout_rate, fold_in(keys, 5))
        caches = None if filled is None else (cache, memory_cache)
        return hidden, (hidden, probabilities, cross_probabilities, caches)


# ── Encoder and decoder ──────────────────────────────────────────────────────────────────────────────────────────────


class T5Stack(Stack):
    """Base of encoder and decoder: layers that share what their heads add by distance, and a norm behind them."""

    config: T5Config
    bidirectional: ClassVar[bool]

    def setup(self) -> None:
        config = self.config
        self.relative_attention_bias = RelativePositions(config, bidirectional=self.bidirectional)
        self.layers = stack(self.layer, config, self.count, None)
        self.norm = rms_norm(config, config.layer_norm_epsilon, None)

    def embed(self, words: Hidden, dropout_keys: Keys, positions: Int[Array, "#batch length"], room: int) -> Hidden:
        return dropout(words, self.config.dropout_rate, fold_in(dropout_keys, self.count))

    def position_bias(
        self, queries: int, keys: int, first: int | Int[Array, ""]
    ) -> Float[Array, "1 heads queries keys"]:
        return self.relative_attention_bias(queries, keys, first)

    def last(self, hidden: Hidden, dropout_keys: Keys) -> Hidden:
        return dropout(self.norm(hidden), self.config.dropout_rate, fold_in(dropout_keys, self.count + 1))


class T5Encoder(T5Stack, Encoder):
    layer: ClassVar[type[nn.Module]] = T5EncoderLayer
    bidirectional: ClassVar[bool] = True


class T5Decoder(T5Stack, Decoder):
    layer: ClassVar[type[nn.Module]] = T5DecoderLayer
    bidirectional: ClassVar[bool] = False


# ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class T5Base(Model):
    """Base of all models: the word embeddings."""

    config: T5Config

    def setup(self) -> None:
        config = self.config
        self.shared = embedding(
            config,
            config.vocab_size,
            config.d_model,
            None,
            stddev=config.initializer_factor,
            axis="vocab",
            table_init=config.initial(1),
        )
        self.encoder = T5Encoder(config)

    def embed(self, ids: Ids) -> Hidden:
        return by_example(self.shared(ids).astype(self.config.compute_dtype))


class T5EncoderModel(T5Base):
    """Embeddings and encoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `hidden_states` (layers + 1, batch, length, hidden), the
    embeddings first and the last one normalised, and `attentions` (layers, batch, heads, length, length) where asked for.
    """

    def __call__(
        self, input_ids: Ids, attention_mask: Mask | None = None, segment_ids: Ids | None = None, **settings: Any
    ) -> ModelOutput:
        return self.encoder(self.embed(input_ids), attention_mask, segment_ids, CallSettings(**settings))


class T5Model(T5Base, EncoderDecoderModel):
    """Embeddings, encoder and decoder."""

    def setup(self) -> None:
        super().setup()
        self.decoder = T5Decoder(self.config)


class T5ForConditionalGeneration(T5Model):
    """Output: `logits` (batch, targets, vocab) of the token after each place, beside those of `T5Model`."""

    generates: ClassVar[bool] = True

    def setup(self) -> None:
        super().setup()
        config = self.config
        if not config.tie_word_embeddings:
            init = config.initial(1)
            self.lm_head = dense(config, config.vocab_size, None, ("embed", "vocab"), bias=False, kernel_init=init)

    def scores(self, hidden: Hidden) -> dict[str, Any]:
        if not too_many(hidden, self.config.vocab_size):
            return dict(logits=self.project_to_vocabulary(hidden))
        if not self.config.tie_word_embeddings:
            return dict(logits=self.lm_head(self._scaled(hidden), unprojected=True))
        return dict(logits=VocabularyScores(self._scaled(hidden), self.vocabulary_kernel))

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token: through the transposed word embeddings, or a table of their own."""
        hidden = self._scaled(hidden)
        if self.config.tie_word_embeddings:
            return table_scores(hidden, self.shared.embedding)
        return self.lm_head(hidden)

    def _scaled(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... hidden"]:
        """What the scores are made of."""
        if not self.config.scale_decoder_outputs:
            return hidden
        return hidden * jnp.asarray(self.config.d_model**-0.5, hidden.dtype)
