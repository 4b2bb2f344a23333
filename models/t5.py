"""T5: an encoder and a decoder with pre-norm residuals and relative positions, for any task from text to text.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2019, arXiv 1910.10683. Version 1.1 has gated feed-forward layers (Shazeer: "GLU Variants Improve
Transformer", 2020, arXiv 2002.05202) and an output layer of its own.

A text is written step by step from what the encoder made of the input once:

    cache = model.apply(variables, input_ids, attention_mask, room=20, method="encode")
    outputs = model.apply(variables, decoder_input_ids=start, past_key_values=cache)
    outputs = model.apply(variables, decoder_input_ids=token, past_key_values=outputs.past_key_values)
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.config import ModelConfig, ModelError
from models.encoder_decoder.inputs import Hidden, Ids, Mask
from models.encoder_decoder.model import EncoderDecoderModel
from models.encoder_decoder.stacks import Decoder, Encoder, Stack
from models.kernels.linear import matmul
from models.kernels.precision import widened
from models.layers.activations import activation, gated
from models.layers.attention import Attention, Cache
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import Initializer, by_example, dense
from models.layers.norm import rms_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput


@dataclasses.dataclass(frozen=True)
class T5Config(ModelConfig):
    """Shape of a T5, with the field names of a published `config.json`.

    Attributes:
        d_kv: features of a head, whatever `d_model` and `num_heads` are.
        num_layers: of the encoder.
        num_decoder_layers: of the decoder; as many as the encoder has where `None`.
        relative_attention_num_buckets: how many distances between tokens are told apart, for each head and stack.
        relative_attention_max_distance: distances from here on are all one.
        feed_forward_proj: activation of the feed-forward layers, `relu`; behind `gated-` it multiplies a second projection
            (`gated-gelu`, whose GELU is the tanh approximation).
        initializer_factor: all initial weights are multiplied by it.
        tie_word_embeddings: whether the scores of tokens come from the word embeddings; version 1.1 has another table.
        scale_decoder_outputs: whether the decoder's output is multiplied by d_model^-0.5 before; not in version 1.1.
    """

    model_type: ClassVar[str] = "t5"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="d_model", num_attention_heads="num_heads", num_hidden_layers="num_layers", head_dim="d_kv")
    )
    variants: ClassVar[tuple[str, ...]] = (
        *("small", "base", "large", "t5_3b", "t5_11b"),
        *("v1_1_small", "v1_1_base", "v1_1_large", "v1_1_xl", "v1_1_xxl"),
    )

    vocab_size: int = 32_128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2_048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    feed_forward_proj: str = "relu"
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 1
    decoder_start_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4:
            raise ModelError(f"relative_attention_num_buckets={buckets}: expected at least 4")
        if distance <= buckets // 2:
            raise ModelError(
                f"relative_attention_max_distance={distance}: expected more than {buckets // 2}, which"
                f" relative_attention_num_buckets={buckets} tell apart one by one"
            )
        if self.num_decoder_layers is not None:
            self._check("num_decoder_layers", self.num_decoder_layers, 1)

    @classmethod
    def from_json(cls, published: dict, **changes) -> "T5Config":
        """From a published `config.json`; decoders alone are refused. Where the file says nothing of them, a text to be
        written begins with padding, and the decoder's output is scaled if the embeddings are tied. `dense_act_fn` and
        `is_gated_act` go before what `feed_forward_proj` says."""
        if published.get("is_decoder"):
            raise ModelError("is_decoder is set: only encoders, and encoders with a decoder, are implemented for T5")
        implied = {
            "decoder_start_token_id": published.get("pad_token_id", cls.pad_token_id),
            "scale_decoder_outputs": published.get("tie_word_embeddings", True),
        }
        config = super().from_json({**implied, **published}, **changes)
        if "feed_forward_proj" in changes:
            return config
        said = {"dense_act_fn": config.activation, "is_gated_act": config.gated}
        meant = {name: value if published.get(name) is None else published[name] for name, value in said.items()}
        if meant == said:
            return config
        name = meant["dense_act_fn"]
        if meant["is_gated_act"]:
            name = "gated-" + {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name)
        return dataclasses.replace(config, feed_forward_proj=name)

    def to_json(self) -> dict:
        """As a published `config.json`: the words that `transformers` derives from `feed_forward_proj` among them."""
        return {
            **super().to_json(),
            "is_encoder_decoder": True,
            "is_gated_act": self.gated,
            "dense_act_fn": self.activation,
        }

    @classmethod
    def small(cls, **changes) -> "T5Config":
        return cls(**changes)

    @classmethod
    def base(cls, **changes) -> "T5Config":
        return cls(**{**dict(d_model=768, d_ff=3_072, num_layers=12, num_heads=12), **changes})

    @classmethod
    def large(cls, **changes) -> "T5Config":
        return cls(**{**dict(d_model=1_024, d_ff=4_096, num_layers=24, num_heads=16), **changes})

    @classmethod
    def t5_3b(cls, **changes) -> "T5Config":
        return cls(**{**dict(d_model=1_024, d_ff=16_384, d_kv=128, num_layers=24, num_heads=32), **changes})

    @classmethod
    def t5_11b(cls, **changes) -> "T5Config":
        return cls(**{**dict(d_model=1_024, d_ff=65_536, d_kv=128, num_layers=24, num_heads=128), **changes})

    @classmethod
    def _version_1_1(cls, width: int, inner: int, layers: int, heads: int, **changes) -> "T5Config":
        shape = dict(d_model=width, d_ff=inner, num_layers=layers, num_heads=heads)
        kind = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)
        return cls(**{**shape, **kind, **changes})

    @classmethod
    def v1_1_small(cls, **changes) -> "T5Config":
        return cls._version_1_1(512, 1_024, 8, 6, **changes)

    @classmethod
    def v1_1_base(cls, **changes) -> "T5Config":
        return cls._version_1_1(768, 2_048, 12, 12, **changes)

    @classmethod
    def v1_1_large(cls, **changes) -> "T5Config":
        return cls._version_1_1(1_024, 2_816, 24, 16, **changes)

    @classmethod
    def v1_1_xl(cls, **changes) -> "T5Config":
        return cls._version_1_1(2_048, 5_120, 24, 32, **changes)

    @classmethod
    def v1_1_xxl(cls, **changes) -> "T5Config":
        return cls._version_1_1(4_096, 10_240, 24, 64, **changes)

    @property
    def hidden_size(self) -> int:
        return self.d_model

    @property
    def encoder_layers(self) -> int:
        return self.num_layers

    @property
    def decoder_layers(self) -> int:
        return self.num_layers if self.num_decoder_layers is None else self.num_decoder_layers

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers multiply two projections."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def activation(self) -> str:
        """The activation of the feed-forward layers; of `gated-gelu` the GELU that version 1.1 was trained with."""
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else self.feed_forward_proj.removeprefix("gated-")

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` texts to be written; no encoder was read yet."""
        return Cache.empty(self, self.decoder_layers, batch, self.num_heads, room, self.d_kv)

    def initial(self, fan: int) -> Initializer:
        """N(0, 1 / fan), times the factor: that of embeddings (1), and of what sums `fan` terms."""
        return nn.initializers.normal(self.initializer_factor * fan**-0.5)


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
    def __call__(self, hidden: Hidden | None, own, shared):
        config = self.config
        index, cache, memory_cache = own
        mask, position_bias, cached, memory, memory_mask, dropout_keys = shared
        if hidden is None:
            return None, attention(config, "cross_attention")(None, None, memory=memory)[2]
        keys = fold_in(dropout_keys, index)
        normed = rms_norm(config, config.layer_norm_epsilon, "attention_norm")(hidden)
        attended, probabilities, cache = attention(config, "attention")(
            normed, mask, fold_in(keys, 0), position_bias=position_bias, cache=cache, cached=cached
        )
        hidden += dropout(attended, config.dropout_rate, fold_in(keys, 1))
        normed = rms_norm(config, config.layer_norm_epsilon, "cross_attention_norm")(hidden)
        attended, cross_probabilities, memory_cache = attention(config, "cross_attention")(
            normed, memory_mask, fold_in(keys, 2), memory=memory, cache=memory_cache
        )
        hidden += dropout(attended, config.dropout_rate, fold_in(keys, 3))
        normed = rms_norm(config, config.layer_norm_epsilon, "mlp_norm")(hidden)
        hidden += dropout(feed_forward(config, normed, fold_in(keys, 4)), config.dropout_rate, fold_in(keys, 5))
        caches = None if cached is None else (cache, memory_cache)
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


class Words(Model):
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


class T5EncoderModel(Words):
    """Embeddings and encoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `hidden_states` (layers + 1, batch, length, hidden), the
    embeddings first and the last one normalised, and `attentions` (layers, batch, heads, length, length) where asked for.
    """

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Mask | None = None,
        segment_ids: Ids | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        return self.encoder(
            self.embed(input_ids),
            attention_mask,
            segment_ids,
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )


class T5Model(Words, EncoderDecoderModel):
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

    def scores(self, hidden: Hidden) -> dict[str, Array]:
        return dict(logits=self.project_to_vocabulary(hidden))

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token: through the transposed word embeddings, or a table of their own."""
        if self.config.scale_decoder_outputs:
            hidden = hidden * jnp.asarray(self.config.d_model**-0.5, hidden.dtype)
        if self.config.tie_word_embeddings:
            return matmul(hidden, self.shared.embedding.T)
        return self.lm_head(hidden)
