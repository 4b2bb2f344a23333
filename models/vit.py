"""ViT: a Transformer encoder with pre-norm residuals over the patches of an image, and its heads.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2020, arXiv 2010.11929.
The sizes Ti and S, and layers that are skipped: Touvron et al., "Training data-efficient image transformers", 2020, arXiv
2012.12877. Masked images: Xie et al., "SimMIM", 2021, arXiv 2111.09886.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig, ModelError, Variant
from models.layers.activations import activation
from models.layers.attention import Attention, attention_pattern, has_kernel
from models.layers.convolution import Conv, Image, Pair, pair
from models.layers.dropout import drop_path, dropout, fold_in
from models.layers.heads import classifier
from models.layers.linear import Initializer, by_example, dense, truncated_normal
from models.layers.norm import layer_norm
from models.layers.positions import resize_positions
from models.layers.stack import stack
from models.model import CallSettings, Model
from models.outputs import ModelOutput

Hidden = Float[Array, "batch length hidden"]
PatchMask = Bool[Array, "batch patches"] | Int[Array, "batch patches"]


def of_size(layers: int, hidden: int, heads: int, patch: int = 16) -> Variant:
    """The variant of this depth, width and size of patches, for the classes of ImageNet."""
    return Variant(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        patch_size=patch,
        encoder_stride=patch,
        labels=tuple(f"LABEL_{number}" for number in range(1_000)),
    )


@dataclasses.dataclass(frozen=True)
class ViTConfig(ModelConfig):
    """Shape of a ViT, with the field names of a published `config.json`.

    Attributes:
        hidden_act: `gelu` (exact, as `transformers` runs published weights) or `gelu_new` (tanh, as they were trained).
        layer_norm_eps: as published; the weights were trained with 1e-6.
        image_size: in pixels, one number for both or (height, width): what there are positions for.
        patch_size: likewise.
        encoder_stride: pixels, in each direction, that the head for masked images makes of a patch.
        qkv_bias: whether the projections to queries, keys and values have biases.
        pooler_output_size: features of the pooler; `hidden_size` where `None`.
        labels: names of the outputs of a classification head (`id2label`).
        drop_path_rate: how often the last layer skips each of its two branches for an example in training; those before it
            less often, in proportion to their number (the first never). A setting of training alone, which no published
            file has.
        interpolate_positions: take images of any size, as with `interpolate_pos_encoding`: for a run that changes its
            resolution, or is evaluated at several.
    """

    model_type: ClassVar[str] = "vit"
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "drop_path_rate", "interpolate_positions")
    variants: ClassVar[tuple[str, ...]] = ("tiny", "small", "base", "base_32", "large", "large_32", "huge_14")

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int | Pair = 224
    patch_size: int | Pair = 16
    num_channels: int = 3
    qkv_bias: bool = True
    encoder_stride: int = 16
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    drop_path_rate: float = 0.0
    interpolate_positions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        activation(self.pooler_act)
        self.check_divides("hidden_size", "num_attention_heads")
        if self.drop_path_rate >= 1:
            raise ModelError(f"drop_path_rate={self.drop_path_rate}: expected a number below 1")
        if 0 in self.grid:
            raise ModelError(f"image_size={self.image_size} is smaller than patch_size={self.patch_size}")

    def _check(self, name: str, value: Any, default: Any) -> None:
        both = name in ("image_size", "patch_size") and isinstance(value, tuple) and len(value) == 2
        for one in value if both else (value,):
            super()._check(name, one, default)

    tiny = of_size(12, 192, 3)
    small = of_size(12, 384, 6)
    base = of_size(12, 768, 12)
    base_32 = of_size(12, 768, 12, 32)
    large = of_size(24, 1_024, 16)
    large_32 = of_size(24, 1_024, 16, 32)
    huge_14 = of_size(32, 1_280, 16, 14)

    @property
    def grid(self) -> Pair:
        """Rows and columns of the patches that there are positions for."""
        return self.grid_of(*pair(self.image_size))

    def grid_of(self, height: int, width: int) -> Pair:
        """Rows and columns of the patches of an image; what is left over at its lower and right edges is not seen."""
        return height // pair(self.patch_size)[0], width // pair(self.patch_size)[1]

    def check_image(self, shape: tuple[int, ...], any_size: bool) -> None:
        """Raise unless the model takes images of this shape, (..., height, width, channels)."""
        height, width, channels = shape[-3:]
        if channels != self.num_channels:
            raise ModelError(f"images of {channels} channels do not fit a model with num_channels={self.num_channels}")
        if any_size and 0 in self.grid_of(height, width):
            raise ModelError(f"images of {height}×{width} pixels are smaller than patch_size={self.patch_size}")
        if not any_size and (height, width) != pair(self.image_size):
            raise ModelError(
                f"images of {height}×{width} pixels do not fit a model with image_size={self.image_size}:"
                " interpolate_pos_encoding=True takes them, and `at_image_size` makes a model for them"
            )


class ViTLayer(nn.Module):
    """One layer: x + attention(LN(x)), then x + MLP(LN(x)). The config is ViT's, or has ViT's names too."""

    config: ModelConfig

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], shared):
        config, (mask, dropout_keys) = self.config, shared
        stddev = config.initializer_range
        keys = fold_in(dropout_keys, index)
        skipped = 0.0  # distinguished from an array of zeros when the program is traced
        if config.drop_path_rate:
            skipped = config.drop_path_rate * index / max(1, config.num_hidden_layers - 1)
        attended, probabilities, _ = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_probs_dropout_prob,
            stddev,
            qkv_bias=config.qkv_bias,
            name="attention",
        )(layer_norm(config, config.layer_norm_eps, "attention_norm")(hidden), mask, fold_in(keys, 0))
        attended = dropout(attended, config.hidden_dropout_prob, fold_in(keys, 1))
        hidden += drop_path(attended, skipped, fold_in(keys, 3))
        inner = layer_norm(config, config.layer_norm_eps, "mlp_norm")(hidden)
        inner = dense(config, config.intermediate_size, "up", ("embed", "mlp"), stddev=stddev)(inner)
        inner = activation(config.hidden_act)(inner)
        inner = dense(config, config.hidden_size, "down", ("mlp", "embed"), stddev=stddev)(inner)
        inner = dropout(inner, config.hidden_dropout_prob, fold_in(keys, 2))
        hidden += drop_path(inner, skipped, fold_in(keys, 4))
        return hidden, (hidden, probabilities)


class ViTBase(Model):
    """Base of the models, whose positions are resized for images of another size."""

    config: ViTConfig

    @nn.nowrap
    def at_image_size(
        self, variables: Mapping[str, Any], image_size: int | Pair, method: str = "bicubic"
    ) -> tuple[Model, dict[str, Any]]:
        """The model for images of another size, to be trained further at that, and its variables with resized positions.

        Args:
            method: see `resize_matrix`.
        """
        larger, _ = super().at_image_size(variables, image_size)
        flat = flatten_dict(nn.unbox(dict(variables)))
        positions = {
            path: resize_positions(value, self.config.grid, larger.config.grid, method)
            for path, value in flat.items()
            if path[-1] == "position_embeddings"
        }
        return larger, unflatten_dict(flat | positions)


class Vectors(nn.Module):
    """Base of modules with learned vectors."""

    config: ModelConfig

    def vectors(self, name: str, count: int, init: Initializer) -> Float[Array, "1 count hidden"]:
        """As they are stored: what each example adds to their gradient is not rounded."""
        init = nn.with_logical_partitioning(init, (None, "position", "embed"))
        return self.param(name, init, (1, count, self.config.hidden_size), jnp.dtype(self.config.param_dtype))


class ViTModel(Vectors, ViTBase):
    """Patches, encoder and (where wanted) pooler.

    Attributes:
        use_mask_token: whether it has a vector to stand for patches that are masked.

    Outputs: `last_hidden_state` (batch, 1 + patches, hidden), normalised, [CLS] first and then the patches row by row;
    `pooler_output` (batch, pooler_output_size), tanh of a projection of [CLS]; `hidden_states` (layers + 1, batch,
    1 + patches, hidden), the embeddings first and none normalised, and `attentions` (layers, batch, heads, 1 + patches,
    1 + patches) where asked for.
    """

    add_pooling_layer: bool = True
    use_mask_token: bool = False

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        bool_masked_pos: PatchMask | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        **settings: Any,
    ) -> ModelOutput:
        """`bool_masked_pos` is true for patches to hide. With `interpolate_pos_encoding` images may have any size: positions
        are resized to them.

        Raises:
            ModelError: images of another size or number of channels; a mask, and no token for it, or of other patches.
        """
        config, call = self.config, CallSettings(**settings)
        config.check_image(pixel_values.shape, interpolate_pos_encoding or config.interpolate_positions)
        grid = config.grid_of(*pixel_values.shape[1:3])
        patches = Conv(
            config,
            config.hidden_size,
            config.patch_size,
            stride=config.patch_size,
            kernel_init=truncated_normal(config.initializer_range),
            name="patch_embeddings",
        )(pixel_values)
        patches = rearrange(patches, "batch rows columns hidden -> batch (rows columns) hidden")
        if self.use_mask_token:
            mask_token = self.vectors("mask_token", 1, nn.initializers.zeros)
        if bool_masked_pos is not None:
            if not self.use_mask_token:
                raise ModelError(
                    "bool_masked_pos is given to a model without a mask token: use_mask_token=True has one"
                )
            if bool_masked_pos.shape != patches.shape[:2]:
                raise ModelError(
                    f"bool_masked_pos of shape {bool_masked_pos.shape} for {patches.shape[:2]} images and patches"
                )
            patches = jnp.where(bool_masked_pos[..., None] > 0, mask_token, patches)
        normal = truncated_normal(config.initializer_range)
        first = repeat(self.vectors("cls_token", 1, normal), "1 1 hidden -> batch 1 hidden", batch=len(patches))
        positions = self.vectors("position_embeddings", 1 + config.grid[0] * config.grid[1], normal)
        embedded = jnp.concatenate([first, patches], axis=1) + resize_positions(positions, config.grid, grid)
        embedded = by_example(embedded.astype(config.compute_dtype))
        layers = config.num_hidden_layers
        embedded = dropout(embedded, config.hidden_dropout_prob, fold_in(call.dropout_keys, layers))
        by_parts = has_kernel(config, probabilities=call.output_attentions)
        mask = attention_pattern(embedded.shape[1], by_parts=by_parts)
        hidden, (states, attentions) = stack(ViTLayer, config, layers, "layers")(
            embedded, jnp.arange(layers), (mask, call.dropout_keys)
        )
        hidden = layer_norm(config, config.layer_norm_eps, "norm")(hidden)
        return ModelOutput(
            last_hidden_state=hidden,
            pooler_output=self._pool(hidden[:, 0]) if self.add_pooling_layer else None,
            **call.asked(embedded, states, attentions),
        )

    def _pool(self, first: Float[Array, "batch hidden"]) -> Float[Array, "batch features"]:
        config = self.config
        features = config.pooler_output_size or config.hidden_size
        pooler = dense(config, features, "pooler", ("embed", "embed_out"), stddev=config.initializer_range)
        return activation(config.pooler_act)(pooler(first))


class ViTForImageClassification(ViTBase):
    """Output: `logits` (batch, labels), of [CLS]; with what `ViTModel` gives."""

    labelled: ClassVar[bool | None] = True

    @nn.compact
    def __call__(self, pixel_values: Image, *, interpolate_pos_encoding: bool = False, **settings: Any) -> ModelOutput:
        config = self.config
        encoded = ViTModel(config, add_pooling_layer=False, name="vit")(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **settings
        )
        first, stddev = encoded.last_hidden_state[:, 0], config.initializer_range
        return ModelOutput(logits=classifier(config, first, len(config.labels), "classifier", stddev=stddev), **encoded)


class ViTForMaskedImageModeling(ViTBase):
    """Output: `reconstruction` (batch, height, width, channels), the pixels, `encoder_stride`² of each patch's; with what
    `ViTModel` gives. SimMIM asks for those of the masked patches (Xie et al., 2021, section 3)."""

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        bool_masked_pos: PatchMask | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        **settings: Any,
    ) -> ModelOutput:
        """`bool_masked_pos` is true for the patches that are hidden.

        Raises:
            ModelError: with it, what is made of a patch would not have the patch's size.
        """
        config = self.config
        stride = config.encoder_stride
        if bool_masked_pos is not None and pair(config.patch_size) != (stride, stride):
            raise ModelError(
                f"patch_size={config.patch_size} and encoder_stride={stride}: masked patches want both to be the same"
            )
        encoded = ViTModel(config, add_pooling_layer=False, use_mask_token=True, name="vit")(
            pixel_values, bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding, **settings
        )
        features, stddev = stride**2 * config.num_channels, config.initializer_range
        pixels = rearrange(
            classifier(config, encoded.last_hidden_state[:, 1:], features, "decoder", stddev=stddev),
            "batch (rows columns) (channels tall wide) -> batch (rows tall) (columns wide) channels",
            rows=config.grid_of(*pixel_values.shape[1:3])[0],
            tall=stride,
            wide=stride,
        )
        return ModelOutput(reconstruction=pixels, **encoded)
