"""The layers, the models and the heads of Llama."""

import abc
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.kernels.linear import matmul
from models.layers.activations import gated
from models.layers.attention import Attention, Cache, attention_pattern
from models.layers.dropout import Keys, fold_in
from models.layers.embedding import embedding, last_token
from models.layers.linear import by_example, dense
from models.layers.norm import rms_norm
from models.layers.stack import stack
from models.llama.config import LlamaConfig
from models.model import Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]


def frequencies(config: LlamaConfig, longest: Int[Array, ""]) -> Float[Array, " pairs"]:
    """Angle by which each pair of features turns from one position to the next.

    θ^(-2i/d) for the pairs i of d features (Su et al., 2021, arXiv 2104.09864, section 3.2.2), scaled as the config says:
    `linear` after Chen et al. ("Extending Context Window … via Positional Interpolation", 2023, arXiv 2306.15595),
    `dynamic` after Peng et al. ("YaRN", 2023, arXiv 2309.00071, sections 3.1 and 3.3), `llama3` after Dubey et al., 2024.

    Args:
        longest: positions in the longest text of the batch; `dynamic` alone depends on it.
    """
    dim, scaling = config.head_size, config.rope_scaling
    theta = jnp.float32(config.rope_theta)
    kind = "default" if scaling is None else scaling.rope_type
    if kind == "dynamic":
        stretch = jnp.maximum(longest, config.max_position_embeddings) / config.max_position_embeddings
        theta *= (scaling.factor * stretch - (scaling.factor - 1)) ** (dim / (dim - 2))
    turned = 1.0 / theta ** (jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    if kind == "linear":
        return turned / scaling.factor
    if kind == "llama3":
        lengths = (
            scaling.original_max_position_embeddings * turned / (2 * jnp.pi)
        )  # how often it turns in the old length
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = jnp.clip((lengths - low) / (high - low), 0.0, 1.0)
        return turned * (kept + (1 - kept) / scaling.factor)
    return turned


def rotary(config: LlamaConfig, position_ids: Int[Array, "#batch length"]) -> tuple[Array, Array]:
    """Cosines and sines for `rotate`, each float32 (batch or 1, 1, length, head_dim)."""
    turned = frequencies(config, position_ids.max() + 1)
    angles = position_ids[:, None, :, None].astype(jnp.float32) * turned[None, None, None]
    angles = jnp.concatenate([angles, angles], axis=-1)
    # A loop, for what comes out of one XLA does not compute anew for every head of every example.
    cos, sin = jax.lax.map(lambda odd: jnp.where(odd, jnp.sin(angles), jnp.cos(angles)), jnp.array([False, True]))
    return cos, sin


class LlamaLayer(nn.Module):
    """One layer: x + attention(norm(x)), then x + down(act(gate(norm(x))) · up(norm(x)))."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, hidden: Hidden, own, shared):
        config = self.config
        index, cache = own
        mask, cached, turns, dropout_keys = shared
        normal = nn.initializers.normal(config.initializer_range)
        attended, probabilities, cache = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_dropout,
            head_dim=config.head_size,
            num_key_value_heads=config.key_value_heads,
            bias=config.attention_bias,
            inits=FrozenDict(query=normal, key=normal, value=normal, out=normal),
            name="attention",
        )(
            rms_norm(config, config.rms_norm_eps, "attention_norm")(hidden),
            mask,
            fold_in(dropout_keys, index),
            rotary=turns,
            cache=cache,
            cached=cached,
        )
        hidden += attended
        inner = rms_norm(config, config.rms_norm_eps, "mlp_norm")(hidden)
        gate, up = (
            dense(config, config.intermediate_size, name, ("embed", "mlp"), bias=config.mlp_bias, kernel_init=normal)
            for name in ("gate", "up")
        )
        inner = gated(config.hidden_act, gate(inner), up(inner))
        hidden += dense(config, config.hidden_size, "down", ("mlp", "embed"), bias=config.mlp_bias, kernel_init=normal)(
            inner
        )
        return hidden, (hidden, probabilities, None if cached is None else cache)


class LlamaModel(Model):
    """Embeddings and decoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `past_key_values`, the new cache, where one was given;
    `hidden_states` (layers + 1, batch, length, hidden), the embeddings first and the last one normalised, and
    `attentions` (layers, batch, heads, length, keys) where asked for.
    """

    causal: ClassVar[bool] = True

    config: LlamaConfig

    def setup(self) -> None:
        config = self.config
        normal = nn.initializers.normal(config.initializer_range)
        self.word_embeddings = embedding(
            config,
            config.vocab_size,
            config.hidden_size,
            None,
            stddev=config.initializer_range,
            axis="vocab",
            table_init=normal,
        )
        self.layers = stack(LlamaLayer, config, config.num_hidden_layers, None)
        self.norm = rms_norm(config, config.rms_norm_eps, None)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """`segment_ids`, equal within a document, keep packed documents apart; `prefix_mask` marks a prefix that is read in
        both directions. With `past_key_values` the tokens come behind those of the cache, `attention_mask` being theirs.
        """
        config = self.config
        length = input_ids.shape[1]
        cached, layer_caches = None, None
        if past_key_values is not None:
            cached, layer_caches = past_key_values.length, (past_key_values.keys, past_key_values.values)
            past_key_values = past_key_values.reading(attention_mask, length)
            attention_mask = past_key_values.mask
        first = 0 if cached is None else cached
        mask = attention_pattern(
            length, attention_mask, causal=True, segment_ids=segment_ids, prefix_mask=prefix_mask, first=first
        )
        turns = rotary(config, jnp.arange(length)[None] + first if position_ids is None else position_ids)
        embedded = by_example(self.word_embeddings(input_ids).astype(config.compute_dtype))
        own = jnp.arange(config.num_hidden_layers), layer_caches
        hidden, (states, attentions, caches) = self.layers(embedded, own, (mask, cached, turns, dropout_keys))
        hidden = self.norm(hidden)
        if past_key_values is not None:
            past_key_values = past_key_values.replace(keys=caches[0], values=caches[1])
        return ModelOutput(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=jnp.concatenate([embedded[None], states[:-1], hidden[None]])
            if output_hidden_states
            else None,
            attentions=attentions if output_attentions else None,
        )


class LlamaHead(Model):
    """Base of the models with a head, which differ in `head`."""

    causal: ClassVar[bool] = True

    config: LlamaConfig

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        decoder = LlamaModel(self.config, name="model")
        decoded = decoder(
            input_ids,
            attention_mask,
            position_ids,
            segment_ids,
            prefix_mask,
            past_key_values,
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        return ModelOutput(logits=self.head(decoder, decoded.last_hidden_state, input_ids, attention_mask), **decoded)

    @abc.abstractmethod
    def head(self, decoder, hidden, input_ids, attention_mask) -> dict[str, Array]:
        """The outputs beside those of the model below."""

    def project(self, name: str, outputs: int, axis: str, hidden: Float[Array, "*shape hidden"]) -> Array:
        """A linear layer without bias."""
        normal = nn.initializers.normal(self.config.initializer_range)
        return dense(self.config, outputs, name, ("embed", axis), bias=False, kernel_init=normal)(hidden)


class LlamaForCausalLM(LlamaHead):
    """Output: `logits` (batch, length, vocab) of the token after each place."""

    generates: ClassVar[bool] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        if self.config.tie_word_embeddings:
            return matmul(hidden, decoder.word_embeddings.embedding.T)
        return self.project("lm_head", self.config.vocab_size, "vocab", hidden)


class LlamaForSequenceClassification(LlamaHead):
    """Output: `logits` (batch, labels), read at the last token that is not padding, by `pad_token_id` and `attention_mask`."""

    labelled: ClassVar[bool | None] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        place = last_token(input_ids, self.config.pad_token_id, attention_mask)
        last = jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]
        return self.project("score", len(self.config.labels), "head_out", last)
