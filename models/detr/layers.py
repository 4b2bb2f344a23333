"""Encoder and decoder layers of DETR: Carion et al., 2020, arXiv 2005.12872, section 3.2 and figure 10."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int, Shaped

from models.detr.config import DetrConfig
from models.encoder_decoder.layers import feed_forward, residual
from models.layers.attention import PlacedAttention
from models.layers.dropout import Keys, fold_in

Hidden = Float[Array, "batch length hidden"]
Queries = Float[Array, "batch queries hidden"]

TEMPERATURE = 10_000.0
EPSILON = 1e-6
"""Added to the image's extent before positions are divided by it."""


def resized(
    x: Shaped[Array, "batch height width *rest"], shape: tuple[int, int]
) -> Shaped[Array, "batch rows columns *rest"]:
    """Nearest-neighbour resizing as torch's `interpolate` does it: each place takes the value at, above or left of its corner.
    (Pillow and JAX compare the middles of places.)"""

    def nearest(before: int, after: int) -> np.ndarray:
        scale = np.float32(before) / np.float32(after)
        return np.minimum(np.floor(np.arange(after, dtype=np.float32) * scale).astype(int), before - 1)

    rows, columns = (nearest(*pair) for pair in zip(x.shape[1:3], shape, strict=True))
    return x[:, rows[:, None], columns[None]]


def feature_mask(
    pixel_mask: Int[Array, "batch height width"] | Bool[Array, "batch height width"], shape: tuple[int, int]
) -> Bool[Array, "batch rows columns"]:
    """Which places of a feature map of this shape belong to the image, not to its padding."""
    return resized(pixel_mask, shape) > 0


def sine_positions(mask: Bool[Array, "batch rows columns"], features: int) -> Float[Array, "batch rows columns hidden"]:
    """Sinusoidal positions in float32: sines and cosines, alternating, of the row, then of the column.

    Rows and columns are counted within the image, without its padding, and scaled from 2π / n to 2π.

    Args:
        features: numbers for each place; half of them encode its row.
    """
    half = features // 2
    wavelengths = (TEMPERATURE ** (2 * (np.arange(half) // 2) / half))[None, None, None]
    even = np.arange(half)[None, None, None] % 2 == 0
    parts = []
    for axis in (1, 2):
        places = jnp.cumsum(mask, axis=axis, dtype=jnp.float32)
        last = jax.lax.slice_in_dim(places, mask.shape[axis] - 1, mask.shape[axis], axis=axis)
        angles = (places / (last + EPSILON) * (2 * math.pi))[..., None] / jnp.asarray(wavelengths, jnp.float32)
        parts.append(jnp.where(even, jnp.sin(angles), jnp.cos(angles)))
    return jnp.concatenate(parts, axis=-1)


class Context(NamedTuple):
    """What all layers share beside the hidden state.

    Attributes:
        positions: position embeddings of the feature map.
        mask: which places belong to the image, for attention.
        dropout_keys: see `CallSettings`.
        memory: the encoder's output; `None` in the encoder.
        queries: position embeddings of the queries; `None` in the encoder.
    """

    positions: Hidden
    mask: Bool[Array, "batch 1 1 length"] | None
    dropout_keys: Keys
    memory: Hidden | None = None
    queries: Float[Array, "1 queries hidden"] | None = None


def attention(config: DetrConfig, heads: int, name: str) -> PlacedAttention:
    """Attention with positions. Query, key and value kernels begin as thirds of one matrix, as in torch."""
    third = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")
    inits = FrozenDict(query=third, key=third, value=third, out=config.kernel_init)
    return PlacedAttention(config, config.d_model, heads, config.attention_dropout, inits=inits, name=name)


class DetrEncoderLayer(nn.Module):
    """Self-attention over the feature map, then a feed-forward layer, with post-norms."""

    config: DetrConfig

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], context: Context):
        config, keys = self.config, fold_in(context.dropout_keys, index)
        attend = attention(config, config.encoder_attention_heads, "attention")
        places = dict(query_positions=context.positions, key_positions=context.positions)
        hidden, probabilities = residual(
            config,
            hidden,
            lambda x: attend(x, context.mask, fold_in(keys, 0), **places),
            "attention_norm",
            fold_in(keys, 1),
        )
        width = config.encoder_ffn_dim
        (hidden,) = residual(
            config, hidden, lambda x: feed_forward(config, width, x, fold_in(keys, 2)), "mlp_norm", fold_in(keys, 3)
        )
        return hidden, (hidden, probabilities)


class DetrDecoderLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the feature map, and a feed-forward layer, with post-norms."""

    config: DetrConfig

    @nn.compact
    def __call__(self, hidden: Queries, index: Int[Array, ""], context: Context):
        config, keys, heads = self.config, fold_in(context.dropout_keys, index), self.config.decoder_attention_heads
        attend, read = attention(config, heads, "attention"), attention(config, heads, "cross_attention")
        among = dict(query_positions=context.queries, key_positions=context.queries)
        hidden, probabilities = residual(
            config, hidden, lambda x: attend(x, None, fold_in(keys, 0), **among), "attention_norm", fold_in(keys, 1)
        )
        places = dict(query_positions=context.queries, key_positions=context.positions, memory=context.memory)
        hidden, cross_probabilities = residual(
            config,
            hidden,
            lambda x: read(x, context.mask, fold_in(keys, 2), **places),
            "cross_attention_norm",
            fold_in(keys, 3),
        )
        width = config.decoder_ffn_dim
        (hidden,) = residual(
            config, hidden, lambda x: feed_forward(config, width, x, fold_in(keys, 4)), "mlp_norm", fold_in(keys, 5)
        )
        return hidden, (hidden, probabilities, cross_probabilities)
