"""DETR with its heads for classes and boxes. Images are (batch, height, width, channels)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from models.detr.config import DetrConfig
from models.detr.layers import (
    Context,
    DetrDecoderLayer,
    DetrEncoderLayer,
    Hidden,
    Queries,
    feature_mask,
    sine_positions,
)
from models.encoder_decoder.layers import LAYER_NORM_EPSILON
from models.kernels.precision import widened
from models.layers.convolution import Conv, Image
from models.layers.dropout import fold_in
from models.layers.embedding import embedding
from models.layers.linear import dense, torch_uniform
from models.layers.norm import BatchAxes, layer_norm
from models.layers.stack import stack
from models.model import CallSettings, Model
from models.outputs import ModelOutput

PixelMask = Int[Array, "batch height width"] | Bool[Array, "batch height width"] | None
QUERIES = "query_position_embeddings"


class Encoder(nn.Module):
    """The stack of encoder layers over the feature map."""

    config: DetrConfig

    @nn.compact
    def __call__(self, hidden: Hidden, context: Context) -> tuple[Hidden, Array, Array]:
        """The last hidden state, those of all layers, and the attention probabilities."""
        count = self.config.encoder_layers
        hidden, (states, attentions) = stack(DetrEncoderLayer, self.config, count, "layers")(
            hidden, jnp.arange(count), context
        )
        return hidden, states, attentions


class Decoder(nn.Module):
    """The stack of decoder layers, in which queries attend to the encoder's output, and the norm after each."""

    config: DetrConfig

    @nn.compact
    def __call__(self, hidden: Queries, context: Context) -> tuple[Array, Array, Array, Array]:
        """The hidden states of all layers, normalised and not, and the attention probabilities."""
        count = self.config.decoder_layers
        _, (states, attentions, cross) = stack(DetrDecoderLayer, self.config, count, "layers")(
            hidden, jnp.arange(count), context
        )
        return layer_norm(self.config, LAYER_NORM_EPSILON, "norm")(states), states, attentions, cross


class DetrBase(Model):
    """Base of the DETR models."""

    config: DetrConfig

    @property
    def batch_statistics(self) -> bool:
        return not self.config.freeze_batch_norm


class DetrModel(DetrBase):
    """A backbone, an encoder with sinusoidal positions over its last feature map, and a decoder with learned queries.

    Input `pixel_mask`: 1 on the image, 0 in the padding below it and to its right.

    Outputs: `last_hidden_state` (batch, queries, hidden); `intermediate_hidden_states` (batch, layers, queries, hidden), of every
    decoder layer; `encoder_last_hidden_state` (batch, places, hidden), rows first; `feature_mask` (batch, rows, columns),
    which places belong to the image; `feature_maps` of the backbone; `encoder_hidden_states`, `decoder_hidden_states`,
    `encoder_attentions`, `decoder_attentions` and `cross_attentions` where asked for.

    Raises:
        ModelError: the images have other channels than the model.
    """

    config: DetrConfig

    @nn.compact
    def __call__(
        self, pixel_values: Image, pixel_mask: PixelMask = None, *, batch_axes: BatchAxes = None, **settings: Any
    ) -> ModelOutput:
        config, call = self.config, CallSettings(**settings)
        dilated = {"dilated": True} if config.dilation else {}
        backbone = config.backbone_to_run.backbone(name="backbone", **dilated)
        maps = backbone(pixel_values, dropout_keys=fold_in(call.dropout_keys, 2), batch_axes=batch_axes).feature_maps
        shape = maps[-1].shape[1:3]
        whole = jnp.ones((len(pixel_values), *shape), bool)
        mask = whole if pixel_mask is None else feature_mask(pixel_mask, shape)
        projected = Conv(config, config.d_model, 1, kernel_init=torch_uniform, name="input_projection")(maps[-1])
        positions = sine_positions(mask, config.d_model).astype(config.compute_dtype)
        context = Context(
            positions=rearrange(positions, "batch rows columns hidden -> batch (rows columns) hidden"),
            mask=None if pixel_mask is None else rearrange(mask, "batch rows columns -> batch 1 1 (rows columns)"),
            dropout_keys=fold_in(call.dropout_keys, 0),
        )
        hidden = rearrange(projected, "batch rows columns hidden -> batch (rows columns) hidden")
        memory, encoded, encoder_attentions = Encoder(config, name="encoder")(hidden, context)
        outputs = self.decode(memory, context, call)
        if call.output_hidden_states:
            outputs |= dict(encoder_hidden_states=jnp.concatenate([hidden[None], encoded]))
        if call.output_attentions:
            outputs |= dict(encoder_attentions=encoder_attentions)
        return ModelOutput(
            **outputs,
            encoder_last_hidden_state=memory,
            projected_features=projected,
            feature_mask=mask,
            feature_maps=maps,
        )

    def decode(self, memory: Hidden, context: Context, call: CallSettings) -> dict[str, Array]:
        """The decoder's output. The queries begin as zeros, each with its learned position."""
        config = self.config
        normal = dict(stddev=1.0, table_init=nn.initializers.normal(1.0))
        table = embedding(config, config.num_queries, config.d_model, QUERIES, axis="position", **normal)
        queries = table(jnp.arange(config.num_queries)).astype(config.compute_dtype)[None]
        begun = jnp.zeros((len(memory), *queries.shape[1:]), config.compute_dtype)
        context = context._replace(memory=memory, queries=queries, dropout_keys=fold_in(call.dropout_keys, 1))
        normed, states, attentions, cross = Decoder(config, name="decoder")(begun, context)
        outputs = dict(
            last_hidden_state=normed[-1],
            intermediate_hidden_states=rearrange(normed, "layers batch queries hidden -> batch layers queries hidden"),
        )
        if call.output_hidden_states:
            outputs |= dict(decoder_hidden_states=jnp.concatenate([begun[None], states[:-1], normed[-1:]]))
        if call.output_attentions:
            outputs |= dict(decoder_attentions=attentions, cross_attentions=cross)
        return outputs


class BoxHead(nn.Module):
    """An MLP of three layers. Boxes are (centre x, centre y, width, height) in fractions of the padded image, float32."""

    config: DetrConfig

    @nn.compact
    def __call__(self, hidden: Float[Array, "*shape hidden"]) -> Float[Array, "*shape 4"]:
        width = self.config.d_model
        for number, features in enumerate((width, width, 4)):
            axes = ("embed", "mlp") if features == width else ("embed", None)
            layer = dense(self.config, features, f"layers_{number}", axes, kernel_init=torch_uniform)
            hidden = layer(nn.relu(hidden) if number else hidden)
        return nn.sigmoid(widened(hidden))


class DetrHeads(DetrBase):
    """Base of the models with heads, which read every decoder layer."""

    config: DetrConfig
    labelled: ClassVar[bool | None] = True

    def detect(self, encoded: ModelOutput) -> dict[str, Array]:
        """`logits`, `pred_boxes`, and the same of the layers before the last."""
        config, states = self.config, encoded.intermediate_hidden_states
        classes = len(config.labels) + 1
        classifier = dense(config, classes, "class_labels_classifier", ("embed", "head_out"), kernel_init=torch_uniform)
        logits, boxes = classifier(states), BoxHead(config, name="bbox_predictor")(states)
        outputs = dict(logits=logits[:, -1], pred_boxes=boxes[:, -1])
        if config.decoder_layers > 1:
            outputs |= dict(auxiliary_logits=logits[:, :-1], auxiliary_boxes=boxes[:, :-1])
        return outputs


class DetrForObjectDetection(DetrHeads):
    """DETR with a class and a box for each query.

    Outputs, beside those of `DetrModel`: `logits` (batch, queries, labels + 1), of which the last is no object; `pred_boxes`
    (batch, queries, 4) as (centre x, centre y, width, height) in fractions of the padded image; `auxiliary_logits` (batch,
    layers - 1, queries, labels + 1) and `auxiliary_boxes` (batch, layers - 1, queries, 4), the same of the decoder layers
    before the last.
    """

    @nn.compact
    def __call__(
        self, pixel_values: Image, pixel_mask: PixelMask = None, *, batch_axes: BatchAxes = None, **settings: Any
    ) -> ModelOutput:
        encoded = DetrModel(self.config, name="model")(pixel_values, pixel_mask, batch_axes=batch_axes, **settings)
        return ModelOutput(**self.detect(encoded), **encoded)
