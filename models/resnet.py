"""ResNet: convolutions with residual connections, the network below many detectors.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015, arXiv 1512.03385; the resolution is halved in the
3 × 3 convolution of a bottleneck ("v1.5", Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv 1706.02677, section 5.1).
"""

import dataclasses
import itertools
import operator
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from models.backbone import Backbone, BackboneConfig
from models.config import ModelConfig, ModelError, Variant
from models.image_classifier import ImageClassifier
from models.kernels.max_pool import max_pool
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.convolution import Conv, Image, check_image
from models.layers.dropout import Keys
from models.layers.linear import dense
from models.layers.norm import BatchAxes, BatchNorm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

STEM_STRIDE = 4
"""By how much the convolution and the pooling before the stages lower the resolution."""
REDUCTION = 4
"""How many times fewer features a bottleneck has within."""


@dataclasses.dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """Shape of a ResNet, with the field names of a published `config.json`.

    Attributes:
        layer_type: `basic` (two 3 × 3 convolutions) or `bottleneck` (1 × 1, 3 × 3, 1 × 1).
        downsample_in_first_stage: halve the resolution in the first stage as in the others.
        downsample_in_bottleneck: halve it in the first convolution of a bottleneck, as in 2015, not in the second.
        hidden_act: the activation after the first convolution and after each sum; within a layer it is `relu` always.
        labels: names of the outputs of a classification head (`id2label`).
        freeze_batch_norm: use the running statistics in training too and leave them, scales and biases as they are, as
            detectors do; a setting of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "resnet"
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "freeze_batch_norm")
    variants: ClassVar[tuple[str, ...]] = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: tuple[int, ...] = (256, 512, 1_024, 2_048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    layer_type: str = "bottleneck"
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1_000))
    freeze_batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        if self.layer_type not in ("basic", "bottleneck"):
            raise ModelError(f"layer_type={self.layer_type!r}: expected basic or bottleneck")
        if not 1 <= len(self.hidden_sizes) == len(self.depths) <= 4:
            raise ModelError(
                f"hidden_sizes={self.hidden_sizes} and depths={self.depths}: expected as many of each, at most 4"
            )

    resnet34 = Variant(hidden_sizes=(64, 128, 256, 512), layer_type="basic")
    resnet18 = Variant(resnet34, depths=(2, 2, 2, 2))
    resnet50 = Variant()
    resnet101 = Variant(depths=(3, 4, 23, 3))
    resnet152 = Variant(depths=(3, 8, 36, 3))

    @property
    def strides(self) -> tuple[int, ...]:
        """By how much each stage lowers the resolution."""
        return (2 if self.downsample_in_first_stage else 1, *(2,) * (len(self.depths) - 1))

    @property
    def channels_by_stage(self) -> tuple[int, ...]:
        return (self.embedding_size, *self.hidden_sizes)

    @property
    def strides_by_stage(self) -> tuple[int, ...]:
        return tuple(itertools.accumulate(self.strides, operator.mul, initial=STEM_STRIDE))

    def backbone(self, **attributes: Any) -> "ResNetBackbone":
        return ResNetBackbone(self, **attributes)


class ConvNorm(nn.Module):
    """A convolution without bias, a batch norm and, unless it is `None`, the activation called `act`."""

    config: ResNetConfig
    features: int
    kernel_size: int
    stride: int = 1
    act: str | None = None
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Image, batch_axes: BatchAxes) -> Image:
        config = self.config
        x = Conv(
            config,
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding=self.kernel_size // 2 * self.dilation,
            dilation=self.dilation,
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            name="convolution",
        )(x)
        x = BatchNorm(config, frozen=config.freeze_batch_norm, name="normalization")(x, batch_axes)
        return x if self.act is None else activation(self.act)(x)


class ResNetLayer(nn.Module):
    """One layer, basic or bottleneck: act(convolutions of x + x), x projected where its shape is not the result's.

    Attributes:
        batch_axes: whose statistics its batch norms use.
        dilation: of its 3 × 3 convolutions.
    """

    config: ResNetConfig
    features: int
    batch_axes: BatchAxes
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, hidden: Image, index: Int[Array, ""] | None = None, shared: None = None):
        config, act = self.config, "relu"
        if config.layer_type == "basic":
            plan = ((self.features, 3, self.stride, act), (self.features, 3, 1, None))
        else:
            first, second = (self.stride, 1) if config.downsample_in_bottleneck else (1, self.stride)
            inner = self.features // REDUCTION
            plan = ((inner, 1, first, act), (inner, 3, second, act), (self.features, 1, 1, None))
        residual, changed = hidden, hidden.shape[-1] != self.features or self.stride != 1
        for number, (features, kernel_size, stride, act) in enumerate(plan):
            dilation = self.dilation if kernel_size > 1 else 1
            convolution = ConvNorm(config, features, kernel_size, stride, act, dilation, name=f"conv_{number}")
            hidden = convolution(hidden, self.batch_axes)
        if changed:
            residual = ConvNorm(config, self.features, 1, self.stride, name="shortcut")(residual, self.batch_axes)
        return activation(config.hidden_act)(hidden + residual), None


class Stages:
    """What the models below have in common: a convolution and a pooling that quarter the resolution, and stages of layers.

    Raises:
        ModelError: the images have other channels than the model.
    """

    config: ResNetConfig

    @property
    def batch_statistics(self) -> bool:
        return not self.config.freeze_batch_norm

    def states(self, pixel_values: Image, batch_axes: BatchAxes, dilated: bool = False) -> tuple[Image, ...]:
        """The feature map before the stages, and that of each.

        Args:
            dilated: keep the resolution in the last stage, and let all its layers but the first see as far as if it were halved.
        """
        config = self.config
        check_image(config, pixel_values)
        hidden = ConvNorm(config, config.embedding_size, 7, 2, config.hidden_act, name="embedder")(
            pixel_values, batch_axes
        )
        states = [max_pool(hidden, (3, 3), (2, 2), (1, 1))]
        for stage, (features, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
            layer = dict(features=features, batch_axes=batch_axes)
            dilation = config.strides[stage] if dilated and stage == len(config.depths) - 1 else 1
            stride = config.strides[stage] // dilation
            hidden, _ = ResNetLayer(config, **layer, stride=stride, name=f"stage_{stage}_first")(states[-1])
            if depth > 1:
                rest = stack(ResNetLayer, config, depth - 1, f"stage_{stage}_rest", **layer, dilation=dilation)
                hidden, _ = rest(hidden, jnp.arange(depth - 1), None)
            states.append(hidden)
        return tuple(states)


class ResNetModel(Stages, Model):
    """A convolution and a pooling that quarter the resolution, and stages of layers, most of which halve it.

    Outputs: `last_hidden_state` (batch, height / 32, width / 32, features); `pooler_output` (batch, features), its mean;
    `hidden_states` where asked for, a feature map (batch, height, width, features) before the stages and of each.
    """

    config: ResNetConfig

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        states = self.states(pixel_values, batch_axes)
        hidden = states[-1]
        return ModelOutput(
            last_hidden_state=hidden,
            pooler_output=widened(hidden).mean(axis=(1, 2)).astype(hidden.dtype),
            hidden_states=states if output_hidden_states else None,
        )


class ResNetBackbone(Stages, Backbone):
    """The model without its end. Output: `feature_maps` of the stages that `config.out_features` names.

    Attributes:
        dilated: keep the resolution in the last stage, its convolutions dilated instead ("DC5", Carion et al., "End-to-End Object
            Detection with Transformers", 2020, arXiv 2005.12872, section 4.1). No published config of a ResNet has it: the
            model on the backbone says so.
    """

    config: ResNetConfig
    dilated: bool = False

    @property
    def strides(self) -> tuple[int, ...]:
        *before, last = self.config.strides_by_stage
        return self._of_stages_out((*before, last // self.config.strides[-1] if self.dilated else last))

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        states = self.states(pixel_values, batch_axes, self.dilated)
        named = dict(zip(self.config.stage_names, states, strict=True))
        return ModelOutput(
            feature_maps=tuple(named[name] for name in self.config.stages_out),
            hidden_states=states if output_hidden_states else None,
        )


class ResNetForImageClassification(ImageClassifier):
    """Output: `logits` (batch, labels), beside those of the model without the head."""

    config: ResNetConfig
    base: ClassVar[type[Model]] = ResNetModel
    base_name: ClassVar[str] = "resnet"

    def head(self, encoded, batch_axes):
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        head = dense(self.config, len(self.config.labels), "classifier", ("embed", "head_out"), kernel_init=uniform)
        return dict(logits=head(encoded.pooler_output))
