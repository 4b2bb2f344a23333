"""The decoder of Mask2Former: in each layer a query attends within the mask that the layer before predicted for it.

Cheng, Misra, Schwing, Kirillov, Girdhar, 2021, arXiv 2112.01527, section 3.2.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from models.kernels.attention import attend
from models.kernels.linear import add_bias, matmul
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.attention import PlacedAttention
from models.layers.convolution import Conv, Image
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import dense, torch_uniform
from models.layers.norm import layer_norm
from models.mask2former.config import LEVELS, Mask2FormerConfig
from models.mask2former.pixel_decoder import EPSILON, places_of, resize, xavier

Queries = Float[Array, "batch queries features"]
Masks = Float[Array, "batch queries height width"]

third = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")
"""Xavier-uniform for a third of a matrix that is query, key and value kernel side by side."""


class MaskedAttention(nn.Module):
    """Cross-attention of queries to the places of a map, with one parameter for query, key and value kernels, as in torch."""

    config: Mask2FormerConfig

    @nn.compact
    def __call__(
        self, query: Queries, key: Array, value: Array, mask: Bool[Array, "batch 1 queries places"], keys: Keys
    ) -> Queries:
        config, dtype = self.config, jnp.dtype(self.config.param_dtype)
        width, heads = config.hidden_dim, config.num_attention_heads
        kernel = self.param(
            "kernel", nn.with_logical_partitioning(third, ("embed", None, "heads")), (width, 3, width), dtype
        )
        bias = self.param(
            "bias", nn.with_logical_partitioning(nn.initializers.zeros, (None, "heads")), (3, width), dtype
        )
        projected = (
            add_bias(matmul(x.astype(config.compute_dtype), kernel[:, part]), bias[part])
            for part, x in enumerate((query, key, value))
        )
        by_head = (rearrange(x, "b n (heads dim) -> b heads n dim", heads=heads) for x in projected)
        scale = (width // heads) ** -0.5
        attended, _ = attend(*by_head, mask, scale=scale, dropout_rate=config.dropout, dropout_keys=keys)
        return dense(config, width, "out", ("heads", "embed"), kernel_init=xavier)(attended)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention among the queries and an MLP, each as LN(x + f(x))."""

    config: Mask2FormerConfig

    @nn.compact
    def __call__(
        self,
        hidden: Queries,
        positions: Float[Array, "1 queries features"],
        level: tuple[Array, Array],
        mask: Bool[Array, "batch 1 queries places"],
        keys: Keys,
    ) -> Queries:
        """`level`: the features of a map (batch, places, features) and their position embeddings."""
        config, rate, width = self.config, self.config.dropout, self.config.hidden_dim
        places, their_positions = level
        cross = MaskedAttention(config, name="cross_attention")
        attended = cross(hidden + positions, places + their_positions, places, mask, fold_in(keys, 0))
        hidden = layer_norm(config, EPSILON, "cross_attention_norm")(hidden + dropout(attended, rate, fold_in(keys, 1)))
        inits = FrozenDict(query=third, key=third, value=third, out=xavier)
        among = PlacedAttention(config, width, config.num_attention_heads, rate, inits=inits, name="attention")
        attended, _ = among(hidden, None, fold_in(keys, 2), query_positions=positions, key_positions=positions)
        hidden = layer_norm(config, EPSILON, "attention_norm")(hidden + dropout(attended, rate, fold_in(keys, 3)))
        inner = dense(config, config.dim_feedforward, "up", ("embed", "mlp"), kernel_init=xavier)(hidden)
        inner = dropout(activation(config.activation_function)(inner), rate, fold_in(keys, 4))
        inner = dense(config, width, "down", ("mlp", "embed"), kernel_init=xavier)(inner)
        return layer_norm(config, EPSILON, "mlp_norm")(hidden + dropout(inner, rate, fold_in(keys, 5)))


class MaskEmbedding(nn.Module):
    """An MLP of three layers: the vector of each query whose dot products with the pixel features are its mask."""

    config: Mask2FormerConfig

    @nn.compact
    def __call__(self, hidden: Queries) -> Float[Array, "batch queries mask_features"]:
        config, width = self.config, self.config.hidden_dim
        for number, features in enumerate((width, width, config.mask_feature_size)):
            axes = ("embed", "mlp") if number < 2 else ("mlp", "embed")
            layer = dense(config, features, f"layers_{number}", axes, kernel_init=torch_uniform)
            hidden = layer(nn.relu(hidden) if number else hidden)
        return hidden


class Decoded(NamedTuple):
    """The decoder's outputs.

    Attributes:
        last: hidden state behind the last layer, not normalised.
        states: hidden states before the first layer and behind each, normalised.
        masks: mask logits predicted from each of `states`.
    """

    last: Queries
    states: list[Queries]
    masks: list[Masks]


def looks_at(masks: Masks, shape: tuple[int, int]) -> Bool[Array, "batch 1 queries places"]:
    """The attention mask of queries over a map of this shape: where their mask has a probability of at least 1/2, or everywhere
    if that is nowhere. No gradient passes through it."""
    maps = rearrange(jax.lax.stop_gradient(widened(masks)), "b q h w -> b h w q")
    likely = rearrange(jax.nn.sigmoid(resize(maps, shape)) >= 0.5, "b h w q -> b 1 q (h w)")
    return likely | ~likely.any(axis=-1, keepdims=True)


class Decoder(nn.Module):
    """Layers that attend to the maps in turn, the coarsest first. Masks are predicted before the first layer and behind each."""

    config: Mask2FormerConfig

    @nn.compact
    def __call__(self, mask_features: Image, seen: tuple[Image, ...], dropout_keys: Keys) -> Decoded:
        config, width = self.config, self.config.hidden_dim
        normal = dict(stddev=1.0, table_init=nn.initializers.normal(1.0), axis="position")
        numbers = jnp.arange(config.num_queries)
        positions, hidden = (
            embedding(config, config.num_queries, width, name, **normal)(numbers).astype(config.compute_dtype)[None]
            for name in ("queries_embedder", "queries_features")
        )
        hidden = jnp.broadcast_to(hidden, (len(mask_features), *hidden.shape[1:]))
        levels = self._levels(seen)
        norm, embed = layer_norm(config, EPSILON, "norm"), MaskEmbedding(config, name="mask_embedding")

        def predict(hidden: Queries) -> tuple[Queries, Masks]:
            normed = norm(hidden)
            return normed, jnp.einsum("bqc,bhwc->bqhw", embed(normed), mask_features)

        layer = nn.remat(DecoderLayer) if config.remat == "full" else DecoderLayer
        predictions = [predict(hidden)]
        for number in range(config.decoder_layers - 1):
            mask = looks_at(predictions[-1][1], seen[number % LEVELS].shape[1:3])
            hidden = layer(config, name=f"layers_{number}")(
                hidden, positions, levels[number % LEVELS], mask, fold_in(dropout_keys, number)
            )
            predictions.append(predict(hidden))
        states, masks = zip(*predictions, strict=True)
        return Decoded(hidden, list(states), list(masks))

    def _levels(self, seen: tuple[Image, ...]) -> list[tuple[Array, Array]]:
        """For each map its features plus a learned embedding of the level, and the position embeddings of its places."""
        config, width = self.config, self.config.hidden_dim
        init = nn.with_logical_partitioning(nn.initializers.normal(1.0), (None, "embed"))
        of_levels = self.param("level_embed", init, (LEVELS, width), jnp.dtype(config.param_dtype))
        levels = []
        for number, x in enumerate(seen):
            if config.projects:
                x = Conv(config, width, 1, kernel_init=xavier, name=f"projection_{number}")(x)
            places = rearrange(x, "b h w c -> b (h w) c") + of_levels[None, None, number].astype(config.compute_dtype)
            levels.append((places, places_of(x.shape[1:3], width).astype(config.compute_dtype)))
        return levels
