"""The layers, the models and the heads of Llama."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.decoder import DecoderHead, DecoderModel, Hidden, Ids, LanguageModel, SequenceClassifier
from models.layers.activations import gated
from models.layers.attention import Attention, LayerCache
from models.layers.dropout import Keys, fold_in
from models.layers.embedding import embedding
from models.layers.linear import by_example, dense
from models.layers.norm import rms_norm
from models.layers.stack import stack
from models.llama.config import LlamaConfig


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
    rope_type = "default" if scaling is None else scaling.rope_type
    if rope_type == "dynamic":
        stretch = jnp.maximum(longest, config.max_position_embeddings) / config.max_position_embeddings
        theta *= (scaling.factor * stretch - (scaling.factor - 1)) ** (dim / (dim - 2))
    turned = 1.0 / theta ** (jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    if rope_type == "linear":
        return turned / scaling.factor
    if rope_type == "llama3":
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
    def __call__(self, hidden: Hidden, per_layer, shared):
        config = self.config
        index, cache = per_layer
        mask, filled, turns, dropout_keys = shared
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
            cache=LayerCache.of(cache, filled),
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
        return hidden, (hidden, probabilities, None if filled is None else cache)


class LlamaModel(DecoderModel):
    """Word embeddings, layers with rotary positions, and a norm behind them."""

    config: LlamaConfig

    def setup(self) -> None:
        config = self.config
        normal = dict(stddev=config.initializer_range, table_init=nn.initializers.normal(config.initializer_range))
        self.word_embeddings = embedding(config, config.vocab_size, config.hidden_size, None, axis="vocab", **normal)
        self.layers = stack(LlamaLayer, config, config.num_hidden_layers, None)
        self.norm = rms_norm(config, config.rms_norm_eps, None)

    def embed(
        self, input_ids: Ids, position_ids: Int[Array, "#batch length"], keys: Keys
    ) -> tuple[Hidden, tuple[Array, Array]]:
        turns = rotary(self.config, position_ids)
        return by_example(self.word_embeddings(input_ids).astype(self.config.compute_dtype)), turns


class LlamaHead(DecoderHead):
    """Base of the models with a head."""

    config: LlamaConfig
    base: ClassVar[type[DecoderModel]] = LlamaModel
    base_name: ClassVar[str] = "model"


class LlamaForCausalLM(LanguageModel, LlamaHead):
    pass


class LlamaForSequenceClassification(SequenceClassifier, LlamaHead):
    pass
