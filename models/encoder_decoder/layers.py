"""Encoder and decoder layers with pre-norms or post-norms: Vaswani et al., 2017, arXiv 1706.03762, section 3.1."""

import flax.linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Int

from models.encoder_decoder.config import EncoderDecoderConfig
from models.encoder_decoder.inputs import Hidden
from models.layers.activations import activation
from models.layers.attention import Attention, LayerCache
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.linear import dense
from models.layers.norm import layer_norm

LAYER_NORM_EPSILON = 1e-5


def attention(config: EncoderDecoderConfig, heads: int, name: str) -> Attention:
    inits = FrozenDict(dict.fromkeys(("query", "key", "value", "out"), config.kernel_init))
    return Attention(
        config, config.d_model, heads, config.attention_dropout, key_bias=config.key_bias, inits=inits, name=name
    )


def feed_forward(config: EncoderDecoderConfig, width: int, hidden: Hidden, keys: Keys) -> tuple[Hidden]:
    """down(dropout(activation(up(x)))), as a sub-layer of `residual` without other outputs."""
    inner = dense(config, width, "up", ("embed", "mlp"), kernel_init=config.kernel_init)(hidden)
    inner = dropout(activation(config.activation_function)(inner), config.activation_dropout, keys)
    return (dense(config, config.d_model, "down", ("mlp", "embed"), kernel_init=config.kernel_init)(inner),)


def residual(config: EncoderDecoderConfig, hidden: Hidden, sublayer, name: str, keys: Keys) -> tuple:
    """LN(x + f(x)), or x + f(LN(x)) with pre-norms, and the other outputs of `sublayer`. `name` is the norm's."""
    norm = layer_norm(config, LAYER_NORM_EPSILON, name)
    added, *more = sublayer(norm(hidden) if config.normalize_before else hidden)
    hidden += dropout(added, config.dropout, keys)
    return hidden if config.normalize_before else norm(hidden), *more


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward layer."""

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
    """Causal self-attention, cross-attention to the encoder's output, and a feed-forward layer. With `hidden` of `None`, the keys
    and values of the cross-attention."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, hidden: Hidden | None, per_layer, shared):
        config = self.config
        index, cache, memory_cache = per_layer
        mask, _, filled, memory, memory_mask, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        attend = attention(config, config.decoder_attention_heads, "attention")
        read = attention(config, config.decoder_attention_heads, "cross_attention")
        if hidden is None:
            return None, read(None, None, memory=memory)[2]
        hidden, probabilities, cache = residual(
            config,
            hidden,
            lambda x: attend(x, mask, fold_in(keys, 0), cache=LayerCache.of(cache, filled)),
            "attention_norm",
            fold_in(keys, 1),
        )
        hidden, cross_probabilities, memory_cache = residual(
            config,
            hidden,
            lambda x: read(x, memory_mask, fold_in(keys, 2), memory=memory, cache=LayerCache.of(memory_cache)),
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
        caches = None if filled is None else (cache, memory_cache)
        return hidden, (hidden, probabilities, cross_probabilities, caches)
