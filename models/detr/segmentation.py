"""DETR's head for masks: Carion et al., 2020, arXiv 2005.12872, section 5 and figure 8.

The attention maps of each query are brought to higher resolutions with the backbone's feature maps, query by query (a feature
pyramid: Lin et al., "Feature Pyramid Networks for Object Detection", 2016, arXiv 1612.03144).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float

from models.config import ModelError
from models.detr.config import DetrConfig
from models.detr.layers import Hidden, Queries, resized
from models.detr.model import DetrHeads, DetrModel, PixelMask
from models.kernels.precision import wide
from models.layers.activations import activation
from models.layers.convolution import Conv, Image
from models.layers.linear import dense
from models.layers.norm import BatchAxes, GroupNorm
from models.outputs import ModelOutput

GROUPS = 8
"""Groups of the group norms."""

FINER = 3
"""Feature maps of the backbone that are used beside the last."""

kaiming_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class AttentionMap(nn.Module):
    """Attention maps of the queries: one softmax over all heads and places together, as in the released code."""

    config: DetrConfig

    @nn.compact
    def __call__(
        self, queries: Queries, memory: Hidden, mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch queries heads length"]:
        config, heads = self.config, self.config.encoder_attention_heads
        size = config.d_model // heads

        def project(x: Hidden, name: str) -> Float[Array, "batch heads length size"]:
            made = dense(config, config.d_model, name, ("embed", "heads"), kernel_init=config.kernel_init)(x)
            return rearrange(made, "batch length (heads size) -> batch heads length size", heads=heads)

        query, key = project(queries, "query") * size**-0.5, project(memory, "key")
        scores = jnp.einsum("bhqd,bhkd->bqhk", query, key, preferred_element_type=wide(key.dtype))
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(scores.dtype).min)
        return jax.nn.softmax(scores, axis=(-2, -1)).astype(config.compute_dtype)


class ConvNorm(nn.Module):
    """A 3 × 3 convolution, a group norm and an activation."""

    config: DetrConfig
    features: int

    @nn.compact
    def __call__(self, x: Image) -> Image:
        x = Conv(self.config, self.features, 3, padding=1, kernel_init=kaiming_uniform, name="convolution")(x)
        x = GroupNorm(self.config, min(GROUPS, self.features), name="norm")(x)
        return activation(self.config.activation_function)(x)


class MaskHead(nn.Module):
    """Convolutions up to the resolution of the finest feature map; the number of features halves from map to map."""

    config: DetrConfig

    @nn.compact
    def __call__(
        self,
        projected: Float[Array, "batch rows columns hidden"],
        looks: Float[Array, "batch queries heads length"],
        finer: tuple[Image, ...],
    ) -> Float[Array, "batch queries fine_rows fine_columns"]:
        config, (batch, queries), rows = self.config, looks.shape[:2], projected.shape[1]
        looks = rearrange(looks, "b q heads (rows columns) -> (b q) rows columns heads", rows=rows)
        hidden = jnp.concatenate([repeat(projected, "b h w c -> (b q) h w c", q=queries), looks], axis=-1)
        hidden = ConvNorm(config, hidden.shape[-1], name="conv_0")(hidden)
        hidden = ConvNorm(config, config.d_model // 2, name="conv_1")(hidden)
        for number, features in enumerate(finer):
            channels = hidden.shape[-1]
            adapter = Conv(config, channels, 1, kernel_init=kaiming_uniform, name=f"adapter_{number}")(features)
            hidden = resized(hidden, features.shape[1:3]) + repeat(adapter, "b h w c -> (b q) h w c", q=queries)
            hidden = ConvNorm(config, config.d_model // 2 ** (number + 2), name=f"conv_{number + 2}")(hidden)
        masks = Conv(config, 1, 3, padding=1, kernel_init=kaiming_uniform, name="out")(hidden)
        return rearrange(masks, "(b q) h w 1 -> b q h w", b=batch)


class DetrForSegmentation(DetrHeads):
    """The model with a class, a box and a mask for each query.

    Outputs, beside those of `DetrForObjectDetection`: `pred_masks` (batch, queries, height / 4, width / 4), logits, at the
    resolution of the backbone's first feature map.

    Raises:
        ModelError: the backbone does not give four feature maps.
    """

    @nn.compact
    def __call__(
        self, pixel_values: Image, pixel_mask: PixelMask = None, *, batch_axes: BatchAxes = None, **settings: Any
    ) -> ModelOutput:
        config, stages = self.config, self.config.backbone_config.stages_out
        if len(stages) != FINER + 1:
            raise ModelError(
                f"masks are made of {FINER + 1} feature maps, and out_features of backbone_config names {', '.join(stages)}"
            )
        encoded = DetrModel(config, name="model")(pixel_values, pixel_mask, batch_axes=batch_axes, **settings)
        mask = rearrange(encoded.feature_mask, "batch rows columns -> batch (rows columns)")
        looks = AttentionMap(config, name="bbox_attention")(
            encoded.last_hidden_state, encoded.encoder_last_hidden_state, mask
        )
        head = MaskHead(config, name="mask_head")
        masks = head(encoded.projected_features, looks, encoded.feature_maps[FINER - 1 :: -1])
        return ModelOutput(**self.detect(encoded), pred_masks=masks, **encoded)
