"""CvT: a hierarchical vision transformer whose tokens and whose queries, keys and values come from convolutions.

Wu, Xiao, Codella, Liu, Dai, Yuan, Zhang: "CvT: Introducing Convolutions to Vision Transformers", 2021, arXiv 2103.15808;
details after the released `cls_cvt.py`.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from models.config import ModelConfig, ModelError, Variant
from models.image_classifier import ImageClassifier
from models.kernels.attention import attend
from models.layers.activations import activation
from models.layers.convolution import Conv, Image, Pair, check_image, places
from models.layers.dropout import Keys, drop_path, dropout, fold_in
from models.layers.linear import Initializer, dense, torch_uniform
from models.layers.norm import BatchAxes, BatchNorm, layer_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

Tokens = Float[Array, "batch tokens hidden"]

EPSILON = 1e-5
"""Of all norms. The `layer_norm_eps` of 1e-12 in published configs is read by nobody."""


@dataclasses.dataclass(frozen=True)
class CvtConfig(ModelConfig):
    """Shape of a CvT, with the field names of a published `config.json`. Each tuple has one entry per stage.

    Attributes:
        patch_sizes, patch_stride, patch_padding: of the convolutions that make a stage's tokens of what came before.
        attention_drop_rate: dropout of the attention probabilities.
        drop_rate: dropout of the tokens, of what attention returns, and of what the MLP returns.
        drop_path_rate: of the last layer of a stage; it grows linearly from 0 at the first.
        cls_token: whether a class token joins the tokens of a stage; only in the last can it.
        kernel_qkv, padding_q, padding_kv, stride_q, stride_kv: of the depthwise convolutions that queries, keys and values
            pass before they are projected.
        labels: names of the outputs of the classification head (`id2label`).
    """

    model_type: ClassVar[str] = "cvt"
    attention_kernel: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ("cvt_13", "cvt_21", "cvt_w24")

    num_channels: int = 3
    patch_sizes: tuple[int, ...] = (7, 3, 3)
    patch_stride: tuple[int, ...] = (4, 2, 2)
    patch_padding: tuple[int, ...] = (2, 1, 1)
    embed_dim: tuple[int, ...] = (64, 192, 384)
    num_heads: tuple[int, ...] = (1, 3, 6)
    depth: tuple[int, ...] = (1, 2, 10)
    mlp_ratio: tuple[int | float, ...] = (4.0, 4.0, 4.0)
    attention_drop_rate: tuple[int | float, ...] = (0.0, 0.0, 0.0)
    drop_rate: tuple[int | float, ...] = (0.0, 0.0, 0.0)
    drop_path_rate: tuple[int | float, ...] = (0.0, 0.0, 0.1)
    qkv_bias: tuple[bool, ...] = (True, True, True)
    cls_token: tuple[bool, ...] = (False, False, True)
    kernel_qkv: tuple[int, ...] = (3, 3, 3)
    padding_kv: tuple[int, ...] = (1, 1, 1)
    stride_kv: tuple[int, ...] = (2, 2, 2)
    padding_q: tuple[int, ...] = (1, 1, 1)
    stride_q: tuple[int, ...] = (1, 1, 1)
    initializer_range: float = 0.02
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1000))

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            value = vars(self)[field.name]
            if isinstance(field.default, tuple) and field.name != "labels" and len(value) != self.stages:
                raise ModelError(f"{field.name}={value}: expected one entry for each of the {self.stages} of depth")
        for stage in range(self.stages):
            if self.embed_dim[stage] % self.num_heads[stage]:
                raise ModelError(
                    f"embed_dim={self.embed_dim[stage]} does not divide into num_heads={self.num_heads[stage]}"
                )
            if self.stride_q[stage] != 1 or self.kernel_qkv[stage] != 2 * self.padding_q[stage] + 1:
                raise ModelError(
                    f"stride_q={self.stride_q} and padding_q={self.padding_q}: expected stride 1 and a padding that leaves"
                    f" as many queries as there are tokens, with kernel_qkv={self.kernel_qkv}"
                )
        if any(self.cls_token[:-1]):
            raise ModelError(f"cls_token={self.cls_token}: only the last stage can have a class token")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "CvtConfig":
        """From a published `config.json`; projections other than by depthwise convolutions are refused."""
        methods = published.get("qkv_projection_method", ["dw_bn"])
        if set(methods) != {"dw_bn"}:
            raise ModelError(f"qkv_projection_method={methods}: only dw_bn is implemented for CvT")
        return super().from_json(published, **changes)

    def to_json(self) -> dict:
        """As a published `config.json`; `transformers` takes no whole numbers where it expects fractions."""
        fractions = ("mlp_ratio", "attention_drop_rate", "drop_rate", "drop_path_rate")
        as_floats = {name: tuple(map(float, vars(self)[name])) for name in fractions}
        return {**super().to_json(), **as_floats, "qkv_projection_method": ("dw_bn",) * self.stages}

    cvt_13 = Variant()
    cvt_21 = Variant(depth=(1, 4, 16))
    cvt_w24 = Variant(depth=(2, 2, 20), embed_dim=(192, 768, 1024), num_heads=(3, 12, 16))

    @property
    def stages(self) -> int:
        return len(self.depth)

    def grids(self, height: int, width: int) -> tuple[Pair, ...]:
        """(height, width) of each stage's grid of tokens, for images of this size.

        Raises:
            ModelError: nothing is left of them.
        """
        grids, size = [], (height, width)
        for kernel, stride, padding in zip(self.patch_sizes, self.patch_stride, self.patch_padding, strict=True):
            size = tuple(places(length, kernel, stride, padding) for length in size)
            if min(size) < 1:
                raise ModelError(
                    f"an image of {height} x {width} is too small for the patches of {self.stages} stages:"
                    f" patch_sizes={self.patch_sizes}, patch_stride={self.patch_stride}"
                )
            grids.append(size)
        return tuple(grids)


def normal(config: CvtConfig) -> Initializer:
    """How linear layers begin."""
    return nn.initializers.normal(config.initializer_range)


class CvtAttention(nn.Module):
    """Attention among the tokens of a grid, each of queries, keys and values after a depthwise convolution of its own.

    The class token, which stands before the others, passes none. Scores are scaled by the root of all features, not of a
    head's, as in the released code.
    """

    config: CvtConfig
    stage: int
    grid: Pair
    batch_axes: BatchAxes

    @nn.compact
    def __call__(self, tokens: Tokens, dropout_keys: Keys) -> Tokens:
        config, stage = self.config, self.stage
        first, others = jnp.split(tokens, [int(config.cls_token[stage])], axis=1)
        image = rearrange(
            others, "batch (height width) hidden -> batch height width hidden", height=self.grid[0], width=self.grid[1]
        )
        query = self._project("query", first, image, config.stride_q[stage], config.padding_q[stage])
        key, value = (
            self._project(name, first, image, config.stride_kv[stage], config.padding_kv[stage])
            for name in ("key", "value")
        )
        features = config.embed_dim[stage]
        attended, _ = attend(
            query,
            key,
            value,
            scale=features**-0.5,
            dropout_rate=config.attention_drop_rate[stage],
            dropout_keys=dropout_keys,
        )
        return dense(config, features, "out", ("heads", "embed"), kernel_init=normal(config))(attended)

    def _project(
        self, name: str, first: Tokens, image: Image, stride: int, padding: int
    ) -> Float[Array, "batch heads kept dim"]:
        """The queries, keys or values, in their heads."""
        config, stage = self.config, self.stage
        features, kernel_size = config.embed_dim[stage], config.kernel_qkv[stage]
        image = Conv(
            config,
            features,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=features,
            use_bias=False,
            kernel_init=torch_uniform,
            name=f"{name}_conv",
        )(image)
        image = BatchNorm(config, EPSILON, name=f"{name}_norm")(image, self.batch_axes)
        tokens = jnp.concatenate(
            [first, rearrange(image, "batch height width hidden -> batch (height width) hidden")], 1
        )
        projection = dense(
            config, features, name, ("embed", "heads"), bias=config.qkv_bias[stage], kernel_init=normal(config)
        )
        return rearrange(
            projection(tokens), "batch tokens (heads dim) -> batch heads tokens dim", heads=config.num_heads[stage]
        )


class CvtLayer(nn.Module):
    """One layer: x + attention(LN(x)), then x + MLP(LN(x)), each of what is added dropped whole with the layer's rate.

    That is the paper's stochastic depth. `transformers` drops the whole sum after the MLP instead, residual and all, and
    gives every layer of a stage the rate that stands at the stage's number in the list of rates.
    """

    config: CvtConfig
    stage: int
    grid: Pair
    batch_axes: BatchAxes

    @nn.compact
    def __call__(self, tokens: Tokens, per_layer, dropout_keys: Keys):
        config, stage = self.config, self.stage
        index, path_rate = per_layer
        keys = fold_in(dropout_keys, index)
        features = config.embed_dim[stage]
        attention = CvtAttention(config, stage, self.grid, self.batch_axes, name="attention")
        attended = attention(layer_norm(config, EPSILON, "attention_norm")(tokens), fold_in(keys, 0))
        attended = dropout(attended, config.drop_rate[stage], fold_in(keys, 1))
        tokens += drop_path(attended, path_rate, fold_in(keys, 2))
        inner = layer_norm(config, EPSILON, "mlp_norm")(tokens)
        width = int(config.mlp_ratio[stage] * features)
        inner = activation("gelu")(dense(config, width, "up", ("embed", "mlp"), kernel_init=normal(config))(inner))
        inner = dense(config, features, "down", ("mlp", "embed"), kernel_init=normal(config))(inner)
        inner = dropout(inner, config.drop_rate[stage], fold_in(keys, 3))
        return tokens + drop_path(inner, path_rate, fold_in(keys, 4)), None


class CvtStage(nn.Module):
    """Tokens by a convolution, then layers. Returns the tokens as an image, and the class token where the stage has one."""

    config: CvtConfig
    stage: int

    @nn.compact
    def __call__(
        self, image: Image, dropout_keys: Keys, batch_axes: BatchAxes
    ) -> tuple[Image, Float[Array, "batch 1 hidden"] | None]:
        config, stage = self.config, self.stage
        features, depth = config.embed_dim[stage], config.depth[stage]
        image = Conv(
            config,
            features,
            config.patch_sizes[stage],
            stride=config.patch_stride[stage],
            padding=config.patch_padding[stage],
            kernel_init=torch_uniform,
            name="embedding",
        )(image)
        image = layer_norm(config, EPSILON, "embedding_norm")(image)
        image = dropout(image, config.drop_rate[stage], fold_in(dropout_keys, depth))
        batch, height, width, _ = image.shape
        tokens = rearrange(image, "batch height width hidden -> batch (height width) hidden")
        if config.cls_token[stage]:
            init = nn.with_logical_partitioning(normal(config), (None, None, "embed"))
            first = self.param("cls_token", init, (1, 1, features), jnp.dtype(config.param_dtype))
            tokens = jnp.concatenate([jnp.broadcast_to(first.astype(tokens.dtype), (batch, 1, features)), tokens], 1)
        per_layer = jnp.arange(depth), jnp.linspace(0, config.drop_path_rate[stage], depth)
        layers = stack(CvtLayer, config, depth, "layers", stage=stage, grid=(height, width), batch_axes=batch_axes)
        tokens, _ = layers(tokens, per_layer, dropout_keys)
        first, others = jnp.split(tokens, [int(config.cls_token[stage])], axis=1)
        image = rearrange(
            others, "batch (height width) hidden -> batch height width hidden", height=height, width=width
        )
        return image, first if config.cls_token[stage] else None


class CvtModel(Model):
    """All stages.

    A fresh model is the released code's: linear layers and the class token N(0, initializer_range²), convolutions
    U(±1/√fan_in) (`transformers` draws these as the linear ones), biases 0.

    Outputs: `last_hidden_state` (batch, height, width, hidden); `cls_token_value` (batch, 1, hidden), the class token,
    where there is one; `hidden_states`, the image that each stage returns, where asked for.
    """

    batch_statistics: ClassVar[bool] = True

    config: CvtConfig

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
        check_image(config, pixel_values)
        config.grids(*pixel_values.shape[1:3])
        image, states = pixel_values, []
        for stage in range(config.stages):
            image, first = CvtStage(config, stage, name=f"stages_{stage}")(
                image, fold_in(dropout_keys, stage), batch_axes
            )
            states.append(image)
        return ModelOutput(
            last_hidden_state=image,
            cls_token_value=first,
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class CvtForImageClassification(ImageClassifier):
    """Output: `logits` (batch, labels), of the normalised class token; of the mean of all tokens where there is none."""

    config: CvtConfig
    base: ClassVar[type[Model]] = CvtModel
    base_name: ClassVar[str] = "cvt"

    def head(self, encoded, batch_axes):
        config = self.config
        if config.cls_token[-1]:
            tokens = encoded.cls_token_value
        else:
            tokens = rearrange(encoded.last_hidden_state, "batch height width hidden -> batch (height width) hidden")
        pooled = layer_norm(config, EPSILON, "norm")(tokens).mean(axis=1)
        classifier = dense(config, len(config.labels), "classifier", ("embed", "head_out"), kernel_init=normal(config))
        return dict(logits=classifier(pooled))
