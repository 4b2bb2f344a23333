"""The pixel decoder of Mask2Former: layers of deformable attention over three feature maps, and a finer map for the masks.

Cheng, Misra, Schwing, Kirillov, Girdhar: "Masked-attention Mask Transformer for Universal Image Segmentation", 2021, arXiv
2112.01527, sections 3.2.2 and 4.1; the layers: Zhu et al., "Deformable DETR", 2020, arXiv 2010.04159, appendix A.2 and A.4.
"""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from models.detr.layers import sine_positions
from models.kernels.deformable_attention import deformable_attention
from models.kernels.linear import add_bias
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.convolution import Conv, Image
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.linear import dense
from models.layers.norm import GroupNorm, layer_norm
from models.layers.stack import stack
from models.mask2former.config import GROUPS, LEVELS, POINTS, Mask2FormerConfig

Places = Float[Array, "batch places features"]
Shapes = tuple[tuple[int, int], ...]

EPSILON = 1e-5
"""Epsilon of all norms."""
xavier = nn.initializers.xavier_uniform()
c2_xavier = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
"""U(±√(3 / fan_in)), as detectron2 begins convolutions."""


def offsets_around(key: Array, shape: tuple[int, ...], dtype: Any) -> Float[Array, " numbers"]:
    """An initializer of the offsets: each head has its direction, point n is n + 1 places from the query (appendix A.4)."""
    heads = math.prod(shape) // (LEVELS * POINTS * 2)
    angles = 2 * np.pi * np.arange(heads) / heads
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    directions /= np.abs(directions).max(axis=-1, keepdims=True)
    steps = np.arange(1, POINTS + 1)
    offsets = np.broadcast_to(directions[:, None, None] * steps[:, None], (heads, LEVELS, POINTS, 2))
    return jnp.asarray(offsets.reshape(-1), dtype)


def middles(shapes: Shapes) -> Float[np.ndarray, "places 2"]:
    """(x, y) of the middle of each place of all levels, in fractions of the image."""
    parts = []
    for height, width in shapes:
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        parts.append(np.stack([x, y], axis=-1).reshape(-1, 2))
    return np.concatenate(parts).astype(np.float32)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention: each place samples `POINTS` points per level, with learned offsets and weights."""

    config: Mask2FormerConfig
    shapes: Shapes

    @nn.compact
    def __call__(self, hidden: Places, positions: Float[Array, "1 places features"]) -> Places:
        config, features = self.config, self.config.feature_size
        heads, zeros = config.num_attention_heads, nn.initializers.zeros
        axes = ("embed", "heads")
        asking = hidden + positions
        value = dense(config, features, "value", axes, kernel_init=xavier)(hidden)
        numbers = heads * LEVELS * POINTS
        offsets = dense(config, 2 * numbers, "offsets", axes, bias=False, kernel_init=zeros)(asking)
        init = nn.with_logical_partitioning(offsets_around, ("heads",))
        offsets = add_bias(offsets, self.param("offsets_bias", init, (2 * numbers,), jnp.dtype(config.param_dtype)))
        weights = dense(config, numbers, "weights", axes, kernel_init=zeros)(asking)
        by_head = "batch places (heads numbers) -> batch places heads numbers"
        weights = jax.nn.softmax(widened(rearrange(weights, by_head, heads=heads)), axis=-1)
        sizes = np.array([[width, height] for height, width in self.shapes], np.float32)
        offsets = (
            widened(offsets).reshape(*hidden.shape[:2], heads, LEVELS, POINTS, 2) / sizes[None, None, None, :, None]
        )
        attended = deformable_attention(
            rearrange(value, by_head, heads=heads),
            middles(self.shapes)[None, :, None, None, None] + offsets,
            weights.reshape(*weights.shape[:3], LEVELS, POINTS),
            self.shapes,
        )
        return dense(config, features, "out", ("heads", "embed"), kernel_init=xavier)(attended)


class PixelDecoderLayer(nn.Module):
    """Deformable attention and an MLP, each as LN(x + f(x))."""

    config: Mask2FormerConfig
    shapes: Shapes

    @nn.compact
    def __call__(self, hidden: Places, index: Int[Array, ""], shared: tuple[Float[Array, "1 places features"], Keys]):
        config, (positions, keys) = self.config, shared
        keys, rate = fold_in(keys, index), config.dropout
        attended = DeformableAttention(config, self.shapes, name="attention")(hidden, positions)
        hidden = layer_norm(config, EPSILON, "attention_norm")(hidden + dropout(attended, rate, fold_in(keys, 0)))
        inner = dense(config, config.encoder_feedforward_dim, "up", ("embed", "mlp"), kernel_init=xavier)(hidden)
        inner = dropout(activation("relu")(inner), rate, fold_in(keys, 1))
        inner = dense(config, config.feature_size, "down", ("mlp", "embed"), kernel_init=xavier)(inner)
        return layer_norm(config, EPSILON, "mlp_norm")(hidden + dropout(inner, rate, fold_in(keys, 2))), None


def resize(maps: Image, shape: tuple[int, int]) -> Image:
    """Bilinear resizing: `interpolate` of torch with `align_corners=False`."""
    batch, _, _, channels = maps.shape
    return jax.image.resize(maps, (batch, *shape, channels), "linear", antialias=False)


class PixelDecoder(nn.Module):
    """From four feature maps, the finest first: the pixel features of the masks, at the finest resolution, and three maps that
    queries attend to, the coarsest first."""

    config: Mask2FormerConfig

    @nn.compact
    def __call__(self, maps: tuple[Image, ...], dropout_keys: Keys) -> tuple[Image, tuple[Image, ...]]:
        config, features = self.config, self.config.feature_size
        levels = []
        for level, x in enumerate(maps[:0:-1]):
            x = Conv(config, features, 1, kernel_init=xavier, name=f"projection_{level}")(x)
            levels.append(GroupNorm(config, GROUPS, name=f"projection_norm_{level}")(x))
        shapes = tuple(x.shape[1:3] for x in levels)
        init = nn.with_logical_partitioning(nn.initializers.normal(1.0), (None, "embed"))
        of_levels = self.param("level_embed", init, (LEVELS, features), jnp.dtype(config.param_dtype))
        places = [
            places_of(shape, features) + widened(of_levels)[None, None, level] for level, shape in enumerate(shapes)
        ]
        positions = jnp.concatenate(places, axis=1).astype(config.compute_dtype)
        hidden = jnp.concatenate([rearrange(x, "b h w c -> b (h w) c") for x in levels], axis=1)
        count = config.encoder_layers
        layers = stack(PixelDecoderLayer, config, count, "layers", shapes=shapes)
        hidden, _ = layers(hidden, jnp.arange(count), (positions, dropout_keys))
        ends = list(itertools.accumulate(height * width for height, width in shapes))
        parts = jnp.split(hidden, ends[:-1], axis=1)
        seen = tuple(x.reshape(len(x), *shape, -1) for x, shape in zip(parts, shapes, strict=True))
        lateral = Conv(config, features, 1, use_bias=False, kernel_init=c2_xavier, name="lateral")(maps[0])
        lateral = GroupNorm(config, GROUPS, name="lateral_norm")(lateral)
        finest = lateral + resize(seen[-1], lateral.shape[1:3])
        finest = Conv(config, features, 3, padding=1, use_bias=False, kernel_init=c2_xavier, name="finest")(finest)
        finest = activation("relu")(GroupNorm(config, GROUPS, name="finest_norm")(finest))
        masks = Conv(config, config.mask_feature_size, 1, kernel_init=c2_xavier, name="mask_projection")
        return masks(finest), seen


def places_of(shape: tuple[int, int], features: int) -> Float[Array, "1 places features"]:
    """Sinusoidal positions of the places of a map, row by row."""
    return rearrange(sine_positions(jnp.ones((1, *shape), bool), features), "b h w c -> b (h w) c")
