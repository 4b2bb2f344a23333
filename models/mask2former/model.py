"""Mask2Former with its class head. Images are (batch, height, width, channels)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from models.layers.convolution import Image
from models.layers.dropout import Keys, fold_in
from models.layers.linear import dense, torch_uniform
from models.layers.norm import BatchAxes
from models.mask2former.config import Mask2FormerConfig
from models.mask2former.decoder import Decoder
from models.mask2former.pixel_decoder import PixelDecoder
from models.model import Model
from models.outputs import ModelOutput

PixelMask = Int[Array, "batch height width"] | Bool[Array, "batch height width"] | None


class Mask2FormerBase(Model):
    """Base of the Mask2Former models."""

    config: Mask2FormerConfig

    @property
    def batch_statistics(self) -> bool:
        return self.config.backbone_to_run.backbone(parent=None).batch_statistics


class Mask2FormerModel(Mask2FormerBase):
    """A backbone, a pixel decoder, and a decoder with learned queries.

    Input `pixel_mask` has no effect: padding is attended to like the image (as in the released code and in `transformers`).

    Outputs: `masks_queries_logits` (batch, queries, height / 4, width / 4), a mask of each query;
    `auxiliary_masks_queries_logits` (batch, layers, queries, height / 4, width / 4), those before the first layer and behind
    each but the last; `transformer_decoder_last_hidden_state` (batch, queries, hidden);
    `transformer_decoder_intermediate_states` (batch, layers + 1, queries, hidden), before the first layer and behind each,
    normalised; `pixel_decoder_last_hidden_state` (batch, height / 4, width / 4, mask features) and
    `pixel_decoder_hidden_states`, the three maps that queries attend to, the coarsest first; `encoder_last_hidden_state`, the
    coarsest map of the backbone.

    Raises:
        ModelError: the images have other channels than the model.
    """

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        pixel_mask: PixelMask = None,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
    ) -> ModelOutput:
        config = self.config
        backbone = config.backbone_to_run.backbone(name="backbone")
        maps = backbone(pixel_values, dropout_keys=fold_in(dropout_keys, 0), batch_axes=batch_axes).feature_maps
        mask_features, seen = PixelDecoder(config, name="pixel_decoder")(maps, fold_in(dropout_keys, 1))
        decoded = Decoder(config, name="decoder")(mask_features, seen, fold_in(dropout_keys, 2))
        return ModelOutput(
            masks_queries_logits=decoded.masks[-1],
            auxiliary_masks_queries_logits=jnp.stack(decoded.masks[:-1], axis=1) if decoded.masks[:-1] else None,
            transformer_decoder_last_hidden_state=decoded.last,
            transformer_decoder_intermediate_states=jnp.stack(decoded.states, axis=1),
            pixel_decoder_last_hidden_state=mask_features,
            pixel_decoder_hidden_states=seen,
            encoder_last_hidden_state=maps[-1],
        )


class Mask2FormerForUniversalSegmentation(Mask2FormerBase):
    """Mask2Former with a class for each query.

    Outputs, beside those of `Mask2FormerModel`: `class_queries_logits` (batch, queries, labels + 1), of which the last is no
    object; `auxiliary_class_queries_logits` (batch, layers, queries, labels + 1), those before the first layer and behind each
    but the last.
    """

    labelled: ClassVar[bool | None] = True

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        pixel_mask: PixelMask = None,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
    ) -> ModelOutput:
        model = Mask2FormerModel(self.config, name="model")
        encoded = model(pixel_values, pixel_mask, dropout_keys=dropout_keys, batch_axes=batch_axes)
        classes = len(self.config.labels) + 1
        predictor = dense(self.config, classes, "class_predictor", ("embed", "head_out"), kernel_init=torch_uniform)
        logits = predictor(encoded.transformer_decoder_intermediate_states)
        return ModelOutput(
            class_queries_logits=logits[:, -1],
            auxiliary_class_queries_logits=logits[:, :-1] if logits.shape[1] > 1 else None,
            **encoded,
        )
