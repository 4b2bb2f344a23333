"""Mix Transformer (MiT): the hierarchical encoder of SegFormer, which GLPN reads depth from, too.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
2021, arXiv 2105.15203, section 3.1.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from models.config import ModelConfig, ModelError, Variant
from models.kernels.attention import attend
from models.layers.activations import activation
from models.layers.convolution import Conv, Image, Pair, check_image, places
from models.layers.dropout import Keys, drop_path, dropout, fold_in
from models.layers.linear import Dense, Initializer, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

EPSILON = 1e-5
"""Of all norms, as in `transformers`, which does not read the `layer_norm_eps` of a config. In the released code it is 1e-6 of
those in blocks and behind stages."""

PER_STAGE = ("depths", "sr_ratios", "hidden_sizes", "patch_sizes", "strides", "num_attention_heads", "mlp_ratios")
"""Fields of a config with one entry per stage."""


@dataclasses.dataclass(frozen=True)
class MixTransformerConfig(ModelConfig):
    """Shape of a Mix Transformer, with the field names of a published `config.json`.

    Attributes:
        num_encoder_blocks: stages.
        sr_ratios: of each stage: how many times fewer rows and columns keys and values come from.
        patch_sizes, strides: of the convolutions that make a stage's tokens of what came before; padded by half of the size.
        mlp_ratios: features within an MLP for each of those around it.
        drop_path_rate: of the last layer of all; it grows linearly from 0 at the first.
        initializer_range: standard deviation of fresh linear layers.
    """

    attention_kernel: ClassVar[bool] = False

    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: tuple[int, ...] = (2, 2, 2, 2)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    hidden_sizes: tuple[int, ...] = (32, 64, 160, 256)
    patch_sizes: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    num_attention_heads: tuple[int, ...] = (1, 2, 5, 8)
    mlp_ratios: tuple[int | float, ...] = (4, 4, 4, 4)
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    drop_path_rate: float = 0.1

    reshape_last_stage = True
    """Whether the last stage returns a map of features; otherwise its tokens, row by row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        for name in PER_STAGE:
            if len(getattr(self, name)) != self.num_encoder_blocks:
                raise ModelError(
                    f"{name}={getattr(self, name)}: expected one entry for each of num_encoder_blocks={self.num_encoder_blocks}"
                )
        for features, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if features % heads:
                raise ModelError(f"hidden_sizes={features} does not divide into num_attention_heads={heads}")

    b0 = Variant()
    b1 = Variant(hidden_sizes=(64, 128, 320, 512))
    b2 = Variant(b1, depths=(3, 4, 6, 3))
    b3 = Variant(b1, depths=(3, 4, 18, 3))
    b4 = Variant(b1, depths=(3, 8, 27, 3))
    b5 = Variant(b1, depths=(3, 6, 40, 3))

    def grids(self, height: int, width: int) -> tuple[Pair, ...]:
        """(height, width) of each stage's feature map, for images of this size.

        Raises:
            ModelError: so little is left in a stage that there are no keys.
        """
        grids, size = [], (height, width)
        for kernel, stride, ratio in zip(self.patch_sizes, self.strides, self.sr_ratios, strict=True):
            size = tuple(places(length, kernel, stride, kernel // 2) for length in size)
            if min(size) < ratio:
                raise ModelError(
                    f"an image of {height} × {width} is too small: stage {len(grids) + 1} of it has {size[0]} × {size[1]}"
                    f" places, and keys and values are made of squares of {ratio} × {ratio} (sr_ratios={self.sr_ratios})"
                )
            grids.append(size)
        return tuple(grids)


def fan_out_normal(groups: int = 1) -> Initializer:
    """N(0, 2 / fan_out), how the convolutions begin; XLA's idea of `fan_out` knows no groups."""
    return nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal")


class MixAttention(nn.Module):
    """Attention from each place of a feature map to the places of one with fewer (section 3.1, equation 2).

    Keys and values are of squares of `sr_ratios` × `sr_ratios` places, made one by a convolution and a layer norm; what is left
    below or to the right is not looked at.
    """

    config: MixTransformerConfig
    stage: int

    @nn.compact
    def __call__(self, hidden: Image, dropout_keys: Keys) -> tuple[Image, Float[Array, "batch heads queries keys"]]:
        """What they make of it, and the probabilities."""
        config, ratio = self.config, self.config.sr_ratios[self.stage]
        features = config.hidden_sizes[self.stage]
        query, memory = self._project("query", hidden), hidden
        if ratio > 1:
            memory = Conv(
                config, features, ratio, stride=ratio, kernel_init=fan_out_normal(), name="sequence_reduction"
            )(memory)
            memory = layer_norm(config, EPSILON, "sequence_reduction_norm")(memory)
        attended, probabilities = attend(
            query,
            self._project("key", memory),
            self._project("value", memory),
            scale=query.shape[-1] ** -0.5,
            dropout_rate=config.attention_probs_dropout_prob,
            dropout_keys=dropout_keys,
        )
        attended = self._dense("out", ("heads", "embed"))(attended)
        return attended.reshape(*hidden.shape[:-1], features), probabilities

    def _project(self, name: str, hidden: Image) -> Float[Array, "batch heads places dim"]:
        """Queries, keys or values, in their heads."""
        tokens = rearrange(hidden, "batch height width hidden -> batch (height width) hidden")
        heads = self.config.num_attention_heads[self.stage]
        return rearrange(
            self._dense(name, ("embed", "heads"))(tokens),
            "batch tokens (heads dim) -> batch heads tokens dim",
            heads=heads,
        )

    def _dense(self, name: str, axes: tuple[str, str]) -> Dense:
        config = self.config
        return dense(config, config.hidden_sizes[self.stage], name, axes, stddev=config.initializer_range)


class MixLayer(nn.Module):
    """x + attention(LN(x)), then x + Mix-FFN(LN(x)): an MLP whose inner features meet their neighbours in a depthwise
    convolution, which is all that tells the model where a token is (section 3.1, equation 3)."""

    config: MixTransformerConfig
    stage: int

    @nn.compact
    def __call__(self, hidden: Image, per_layer, dropout_keys: Keys):
        config = self.config
        index, path_rate = per_layer
        keys, rate = fold_in(dropout_keys, index), config.hidden_dropout_prob
        features = config.hidden_sizes[self.stage]
        width = int(features * config.mlp_ratios[self.stage])
        normal = dict(stddev=config.initializer_range)
        attended, probabilities = MixAttention(config, self.stage, name="attention")(
            layer_norm(config, EPSILON, "attention_norm")(hidden), fold_in(keys, 0)
        )
        attended = dropout(attended, rate, fold_in(keys, 1))
        hidden += drop_path(attended, path_rate, fold_in(keys, 2))
        inner = layer_norm(config, EPSILON, "mlp_norm")(hidden)
        inner = dense(config, width, "up", ("embed", "mlp"), **normal)(inner)
        inner = Conv(config, width, 3, padding=1, groups=width, kernel_init=fan_out_normal(width), name="depthwise")(
            inner
        )
        inner = dropout(activation(config.hidden_act)(inner), rate, fold_in(keys, 3))
        inner = dense(config, features, "down", ("mlp", "embed"), **normal)(inner)
        inner = dropout(inner, rate, fold_in(keys, 4))
        return hidden + drop_path(inner, path_rate, fold_in(keys, 5)), probabilities


class MixStage(nn.Module):
    """Tokens by a convolution whose patches overlap, layers, and a layer norm."""

    config: MixTransformerConfig
    stage: int

    @nn.compact
    def __call__(
        self, hidden: Image, dropout_keys: Keys
    ) -> tuple[Image, Float[Array, "layers batch heads queries keys"]]:
        """The feature map, and the probabilities of attention."""
        config, stage = self.config, self.stage
        before, depth, size = sum(config.depths[:stage]), config.depths[stage], config.patch_sizes[stage]
        hidden = Conv(
            config,
            config.hidden_sizes[stage],
            size,
            stride=config.strides[stage],
            padding=size // 2,
            kernel_init=fan_out_normal(),
            name="embedding",
        )(hidden)
        hidden = layer_norm(config, EPSILON, "embedding_norm")(hidden)
        rates = jnp.linspace(0, config.drop_path_rate, sum(config.depths))[before : before + depth]
        layers = stack(MixLayer, config, depth, "layers", stage=stage)
        hidden, attentions = layers(hidden, (jnp.arange(depth), rates), dropout_keys)
        return layer_norm(config, EPSILON, "norm")(hidden), attentions


class MixTransformer(Model):
    """All stages.

    A fresh model is the released code's: linear layers N(0, initializer_range²) cut at ±2 deviations, convolutions
    N(0, 2 / fan_out), biases 0.

    Outputs: `last_hidden_state`, the feature map (batch, height, width, hidden) of the last stage, or its tokens (batch,
    tokens, hidden) where the config says so; where asked for `hidden_states`, what each stage returns, and `attentions`, of each
    layer of all stages the probabilities (batch, heads, queries, keys), fewer keys than queries in the first stages.

    Raises:
        ModelError: the images have other channels than the model, or are too small.
    """

    config: MixTransformerConfig

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        config = self.config
        check_image(config, pixel_values)
        config.grids(*pixel_values.shape[1:3])
        hidden, states, attentions = pixel_values, [], []
        for stage in range(config.num_encoder_blocks):
            hidden, of_layers = MixStage(config, stage, name=f"stages_{stage}")(hidden, fold_in(dropout_keys, stage))
            states.append(hidden)
            attentions += [*of_layers] if output_attentions else []
        if not config.reshape_last_stage:
            hidden = states[-1] = rearrange(hidden, "batch height width hidden -> batch (height width) hidden")
        return ModelOutput(
            last_hidden_state=hidden,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
