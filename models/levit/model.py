"""The layers, the models and the heads of LeViT."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from models.config import ModelError
from models.image_classifier import ImageClassifier
from models.kernels.attention import attend
from models.kernels.precision import widened
from models.layers.convolution import Conv, Image
from models.layers.dropout import Keys, drop_path, fold_in
from models.layers.linear import Initializer, dense, torch_uniform
from models.layers.norm import BatchAxes, BatchNorm
from models.layers.stack import stack
from models.levit.config import SHRINKING_MLP_RATIO, SHRINKING_STRIDE, SHRINKING_VALUE_RATIO, STAGES, STEM, LevitConfig
from models.model import Model
from models.outputs import ModelOutput

Tokens = Float[Array, "batch tokens hidden"]
Pooled = Float[Array, "batch hidden"]

EPSILON = 1e-5
"""Of all batch norms."""


class LevitLinear(nn.Module):
    """A linear layer without bias, and a batch norm.

    Attributes:
        scale_init: of the batch norm: zeros where a residual branch ends, so that it begins as nothing.
    """

    config: LevitConfig
    features: int
    axes: tuple[str | None, str | None]
    batch_axes: BatchAxes
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, "batch tokens features"]:
        config = self.config
        linear = dense(config, self.features, "linear", self.axes, bias=config.fused_norms, kernel_init=torch_uniform)
        return normalize(config, linear(tokens), self.batch_axes, self.scale_init)


def normalize(
    config: LevitConfig, x: Float[Array, "... features"], batch_axes: BatchAxes, scale_init: Initializer
) -> Float[Array, "... features"]:
    """The batch norm behind a linear layer or a convolution, where that does not do its work, too."""
    if config.fused_norms:
        return x
    return BatchNorm(config, EPSILON, scale_init=scale_init, name="norm")(x, batch_axes)


class LevitConvolution(nn.Module):
    """A convolution of the stem, without bias, and a batch norm."""

    config: LevitConfig
    features: int

    @nn.compact
    def __call__(self, image: Image, batch_axes: BatchAxes) -> Image:
        config = self.config
        convolution = Conv(
            config,
            self.features,
            config.kernel_size,
            stride=config.stride,
            padding=config.padding,
            use_bias=config.fused_norms,
            kernel_init=torch_uniform,
            name="convolution",
        )
        return normalize(config, convolution(image), batch_axes, nn.initializers.ones)


class LevitAttention(nn.Module):
    """Attention among the tokens of a grid, with a learned bias for each head and distance (|Δy|, |Δx|) of two tokens.

    Attributes:
        features: of the output.
        grid: height and width, in tokens, of what keys and values are made from.
        stride: every so many tokens of a row and of a column ask; where not all do, queries have a projection of their own.
        value_dim: features of a head's values.
    """

    config: LevitConfig
    features: int
    heads: int
    key_dim: int
    value_dim: int
    grid: int
    stride: int
    batch_axes: BatchAxes
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, "batch queries features"]:
        if self.stride == 1:
            sizes = (self.key_dim, self.key_dim, self.value_dim)
            query, key, value = self._project(tokens, "qkv", sizes)
        else:
            rows = rearrange(tokens, "batch (height width) hidden -> batch height width hidden", height=self.grid)
            asking = rows[:, :: self.stride, :: self.stride]
            asking = rearrange(asking, "batch height width hidden -> batch (height width) hidden")
            (query,) = self._project(asking, "query", (self.key_dim,))
            key, value = self._project(tokens, "key_value", (self.key_dim, self.value_dim))
        init = nn.with_logical_partitioning(nn.initializers.zeros, (None, None))
        bias = self.param("bias", init, (self.heads, self.grid**2), jnp.dtype(self.config.param_dtype))
        bias = widened(bias)[:, distances(self.grid, self.stride)][None]
        attended, _ = attend(query, key, value, scale=self.key_dim**-0.5, position_bias=bias)
        return LevitLinear(
            self.config, self.features, ("heads", "embed"), self.batch_axes, self.scale_init, name="out"
        )(jax.nn.hard_swish(attended))

    def _project(self, tokens: Tokens, name: str, sizes: tuple[int, ...]) -> list[Array]:
        """One product, whose features are those of each head side by side, cut into `(batch, heads, tokens, size)`."""
        linear = LevitLinear(self.config, self.heads * sum(sizes), ("embed", "heads"), self.batch_axes, name=name)
        by_heads = rearrange(linear(tokens), "batch tokens (heads dim) -> batch heads tokens dim", heads=self.heads)
        return jnp.split(by_heads, np.cumsum(sizes)[:-1], axis=-1)


def distances(grid: int, stride: int) -> np.ndarray:
    """(queries, keys): |Δy| · grid + |Δx| of each two tokens of a grid, where every `stride`-th of a row and column asks."""
    distances = np.abs(np.arange(0, grid, stride)[:, None] - np.arange(grid)[None])
    both = distances[:, None, :, None] * grid + distances[None, :, None, :]
    return rearrange(both, "y x key_y key_x -> (y x) (key_y key_x)")


class LevitMLP(nn.Module):
    """Two linear layers, `ratio` times as many features between them as at the ends."""

    config: LevitConfig
    ratio: int
    batch_axes: BatchAxes

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        features = tokens.shape[-1]
        up = LevitLinear(self.config, self.ratio * features, ("embed", "mlp"), self.batch_axes, name="up")
        down = LevitLinear(self.config, features, ("mlp", "embed"), self.batch_axes, nn.initializers.zeros, name="down")
        return down(jax.nn.hard_swish(up(tokens)))


class LevitLayer(nn.Module):
    """One layer of a stage: x + attention(x), then x + MLP(x)."""

    config: LevitConfig
    stage: int
    batch_axes: BatchAxes

    @nn.compact
    def __call__(self, tokens: Tokens, index, dropout_keys: Keys):
        config, stage = self.config, self.stage
        keys, rate = fold_in(dropout_keys, index), config.drop_path_rate
        key_dim = config.key_dim[stage]
        attention = LevitAttention(
            config,
            config.hidden_sizes[stage],
            config.num_attention_heads[stage],
            key_dim,
            config.attention_ratio[stage] * key_dim,
            config.grids[stage],
            1,
            self.batch_axes,
            nn.initializers.zeros,
            name="attention",
        )
        tokens += drop_path(attention(tokens), rate, fold_in(keys, 0))
        mlp = LevitMLP(config, config.mlp_ratio[stage], self.batch_axes, name="mlp")
        return tokens + drop_path(mlp(tokens), rate, fold_in(keys, 1)), None


class LevitStage(nn.Module):
    """Layers; then, but in the last stage, attention from every second token of rows and columns, and x + MLP(x)."""

    config: LevitConfig
    stage: int

    @nn.compact
    def __call__(
        self, tokens: Tokens, dropout_keys: Keys, batch_axes: BatchAxes
    ) -> Float[Array, "batch fewer_tokens features"]:
        config, stage = self.config, self.stage
        depth = config.depths[stage]
        layers = stack(LevitLayer, config, depth, "layers", stage=stage, batch_axes=batch_axes)
        tokens, _ = layers(tokens, jnp.arange(depth), dropout_keys)
        if stage == STAGES - 1:
            return tokens
        key_dim = config.key_dim[0]
        tokens = LevitAttention(
            config,
            config.hidden_sizes[stage + 1],
            config.shrinking_heads(stage),
            key_dim,
            SHRINKING_VALUE_RATIO * key_dim,
            config.grids[stage],
            SHRINKING_STRIDE,
            batch_axes,
            name="shrinking_attention",
        )(tokens)
        mlp = LevitMLP(config, SHRINKING_MLP_RATIO, batch_axes, name="shrinking_mlp")
        return tokens + drop_path(mlp(tokens), config.drop_path_rate, fold_in(dropout_keys, depth))


class LevitModel(Model):
    """Stem and stages.

    A fresh model is the released code's: where a residual branch ends in a batch norm, its scale begins at 0
    (`transformers` begins it at 1), and kernels as U(±1/√fan_in) (there N(0, initializer_range²)).

    Outputs: `last_hidden_state` (batch, tokens, hidden); `pooler_output` (batch, hidden), the mean of the tokens;
    `hidden_states`, the tokens before the first stage and after each, where asked for.
    """

    batch_statistics: ClassVar[bool] = True

    config: LevitConfig

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        config = self.config
        expected = (config.image_size, config.image_size, config.num_channels)
        if pixel_values.shape[1:] != expected:
            raise ModelError(
                f"pixel_values of shape {pixel_values.shape}: expected (batch, {', '.join(map(str, expected))}), by"
                " image_size and num_channels"
            )
        if config.fused_norms and batch_axes is not None:
            raise ModelError(
                "fused_norms is set, and batch_axes asks for statistics of the batch: train the model unfused"
            )
        image = pixel_values
        for i, channels in enumerate(config.stem_channels):
            image = LevitConvolution(config, channels, name=f"stem_{i}")(image, batch_axes)
            image = jax.nn.hard_swish(image) if i < STEM - 1 else image
        tokens = rearrange(image, "batch height width hidden -> batch (height width) hidden")
        states = [tokens]
        for stage in range(STAGES):
            tokens = LevitStage(config, stage, name=f"stages_{stage}")(tokens, fold_in(dropout_keys, stage), batch_axes)
            states.append(tokens)
        return ModelOutput(
            last_hidden_state=tokens,
            pooler_output=tokens.mean(axis=1),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class LevitClassifier(nn.Module):
    """A batch norm, then a linear layer."""

    config: LevitConfig

    @nn.compact
    def __call__(self, pooled: Pooled, batch_axes: BatchAxes) -> Float[Array, "batch labels"]:
        config = self.config
        init = nn.initializers.normal(config.initializer_range)
        linear = dense(config, len(config.labels), "linear", ("embed", "head_out"), kernel_init=init)
        return linear(normalize(config, pooled, batch_axes, nn.initializers.ones))


class LevitHead(ImageClassifier):
    """Base of the models with a head."""

    config: LevitConfig
    base: ClassVar[type[Model]] = LevitModel
    base_name: ClassVar[str] = "levit"


class LevitForImageClassification(LevitHead):
    """Output: `logits` (batch, labels)."""

    def head(self, encoded, batch_axes):
        return dict(logits=LevitClassifier(self.config, name="classifier")(encoded.pooler_output, batch_axes))


class LevitForImageClassificationWithTeacher(LevitHead):
    """Outputs: `cls_logits` and `distillation_logits` (batch, labels), of the head that learns from labels and of the one
    that learns from a teacher; `logits`, their mean."""

    def head(self, encoded, batch_axes):
        pooled = encoded.pooler_output
        cls_logits = LevitClassifier(self.config, name="classifier")(pooled, batch_axes)
        distillation_logits = LevitClassifier(self.config, name="classifier_distill")(pooled, batch_axes)
        return dict(
            logits=(cls_logits + distillation_logits) / 2,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
        )


# ── Batch norms folded into their neighbours ─────────────────────────────────────────────────────────────────────────


def fused(model: nn.Module, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """The same function without batch norms: each with its running statistics is part of the layer that it follows, or in
    a classifier of the one before which it stands, as the released code fuses them. For inference: it learns no statistics.

    Args:
        model: one of this file, with its `variables`.

    Returns:
        The model with `fused_norms` set, and its variables.
    """
    variables = nn.unbox(dict(variables))
    parameters = flatten_dict(variables["params"], sep="/") | flatten_dict(variables["batch_stats"], sep="/")
    folded = {path: value for path, value in parameters.items() if "/norm/" not in path}
    for path in parameters:
        if not path.endswith("/norm/scale"):
            continue
        layer = path.removesuffix("/norm/scale")
        scale, bias, mean, var = (
            parameters[f"{layer}/norm/{name}"].astype(jnp.float32) for name in ("scale", "bias", "mean", "var")
        )
        scale = scale / jnp.sqrt(var + EPSILON)
        shift = bias - mean * scale
        after = "convolution" if f"{layer}/convolution/kernel" in parameters else "linear"
        kernel = parameters[f"{layer}/{after}/kernel"]
        own_bias = parameters.get(f"{layer}/{after}/bias")
        if own_bias is not None:  # only a classifier has one, and its norm comes first
            weights, shift = kernel * scale[:, None], own_bias + shift @ kernel
        else:
            weights = kernel * jnp.expand_dims(scale, range(scale.ndim - 1, kernel.ndim - 1))
        folded[f"{layer}/{after}/kernel"] = weights.astype(kernel.dtype)
        folded[f"{layer}/{after}/bias"] = shift.astype(kernel.dtype)
    config = dataclasses.replace(model.config, fused_norms=True)
    return type(model)(config), {"params": unflatten_dict(folded, sep="/")}
