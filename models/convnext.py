"""ConvNeXt: a convolutional network built after the Transformer, depthwise 7 × 7 convolutions in the place of attention.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", 2022, arXiv 2201.03545.
"""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.config import ModelConfig, ModelError, Variant
from models.image_classifier import ImageClassifier
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.convolution import Conv, Image, check_image, pair
from models.layers.dropout import Keys, drop_path, fold_in
from models.layers.linear import dense, truncated_normal
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

KERNEL = 7
"""Height and width of what a block's depthwise convolution sees."""
NORM_EPSILON = 1e-6
"""Of all norms but the last, whatever the config says."""


@dataclasses.dataclass(frozen=True)
class ConvNextConfig(ModelConfig):
    """Shape of a ConvNeXt, with the field names of a published `config.json`.

    Attributes:
        layer_norm_eps: of the norm before the classifier alone; published models were trained with 1e-6, and
            `transformers` runs them with 1e-12.
        layer_scale_init_value: what a block's result is multiplied with at first; 0 for no such parameter.
        drop_path_rate: how often the last block is skipped in training; the first never is, and between them the rate
            grows evenly.
        labels: names of the outputs of a classification head (`id2label`).
        head_init_scale: factor of the classifier's first weights (0.001 where published models are fine-tuned); a setting
            of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "convnext"
    attention_kernel: ClassVar[bool] = False
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(dict(num_hidden_layers="num_stages"))
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "head_init_scale")
    variants: ClassVar[tuple[str, ...]] = ("tiny", "small", "base", "large", "xlarge")

    num_channels: int = 3
    patch_size: int | tuple[int, int] = 4
    num_stages: int = 4
    hidden_sizes: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    hidden_act: str = "gelu"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    layer_scale_init_value: float = 1e-6
    drop_path_rate: float = 0.0
    image_size: int | tuple[int, int] = 224
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1_000))
    head_init_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        if not 1 <= self.num_stages == len(self.hidden_sizes) == len(self.depths) <= 4:
            raise ModelError(
                f"hidden_sizes={self.hidden_sizes} and depths={self.depths}: "
                f"expected num_stages={self.num_stages} of each, at most 4"
            )

    tiny = Variant()
    small = Variant(depths=(3, 3, 27, 3))
    base = Variant(small, hidden_sizes=(128, 256, 512, 1_024))
    large = Variant(small, hidden_sizes=(192, 384, 768, 1_536))
    xlarge = Variant(small, hidden_sizes=(256, 512, 1_024, 2_048))


class ConvNextLayer(nn.Module):
    """One block: x + γ · MLP(LN(depthwise convolution of x)), the sum's second half dropped for whole examples."""

    config: ConvNextConfig

    @nn.compact
    def __call__(self, hidden: Image, per_layer: tuple[Int[Array, ""], Float[Array, ""]], dropout_keys: Keys):
        config = self.config
        index, rate = per_layer
        features, stddev = hidden.shape[-1], config.initializer_range
        normal = truncated_normal(stddev)
        inner = Conv(
            config, features, KERNEL, padding=KERNEL // 2, groups=features, kernel_init=normal, name="depthwise"
        )(hidden)
        inner = layer_norm(config, NORM_EPSILON, "norm")(inner)
        inner = dense(config, 4 * features, "up", ("embed", "mlp"), stddev=stddev)(inner)
        inner = activation(config.hidden_act)(inner)
        inner = dense(config, features, "down", ("mlp", "embed"), stddev=stddev)(inner)
        if config.layer_scale_init_value > 0:
            init = nn.with_logical_partitioning(nn.initializers.constant(config.layer_scale_init_value), ("norm",))
            scale = self.param("layer_scale", init, (features,), jnp.dtype(config.param_dtype))
            inner = inner * jnp.expand_dims(scale.astype(inner.dtype), range(inner.ndim - 1))
        return hidden + drop_path(inner, rate, fold_in(dropout_keys, index)), None


class ConvNextBase(Model):
    """Base of the models, whose four stages are of different depths."""

    config: ConvNextConfig

    @nn.nowrap
    def depth(self, path: str) -> int | tuple[int, ...]:
        """How far the parameter at a path is from the input, for rates that fall from layer to layer; of a stage, each block.

        `get_num_layer_for_convnext` of the released code: twelve groups, of the third stage three blocks in each.
        """
        match = re.search(r"(stage|downsampling)_(\d)", path)
        if match is None:
            return 0 if "patches" in path else 13
        stage = int(match[2])
        first = (1, 2, 3, 12)[stage]
        if match[1] == "downsampling":
            return first
        return tuple(first + (block // 3 if stage == 2 else 0) for block in range(self.config.depths[stage]))


class ConvNextModel(ConvNextBase):
    """Patches, and stages of blocks, each but the first at half the resolution of the one before.

    Outputs: `last_hidden_state` (batch, height / 32, width / 32, features); `pooler_output` (batch, features), the norm of
    its mean; `hidden_states` where asked for, a feature map (batch, height, width, features) of the patches and of each
    stage.

    Raises:
        ModelError: the images have other channels than the model, or no place is left of them in the last stage.
    """

    @nn.compact
    def __call__(
        self, pixel_values: Image, *, dropout_keys: Keys = None, output_hidden_states: bool = False
    ) -> ModelOutput:
        config = self.config
        check_image(config, pixel_values, tuple(length << config.num_stages - 1 for length in pair(config.patch_size)))
        depth, size, normal = sum(config.depths), config.patch_size, truncated_normal(config.initializer_range)
        numbers, rates = jnp.arange(depth), jnp.linspace(0, config.drop_path_rate, depth, dtype=jnp.float32)
        keys = dropout_keys if config.drop_path_rate > 0 else None
        hidden = Conv(config, config.hidden_sizes[0], size, stride=size, kernel_init=normal, name="patches")(
            pixel_values
        )
        hidden = layer_norm(config, NORM_EPSILON, "patches_norm")(hidden)
        states, first = [hidden], 0
        for stage, (features, count) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
            if stage > 0:
                hidden = layer_norm(config, NORM_EPSILON, f"downsampling_{stage}_norm")(hidden)
                hidden = Conv(config, features, 2, stride=2, kernel_init=normal, name=f"downsampling_{stage}")(hidden)
            per_layer = numbers[first : first + count], rates[first : first + count]
            hidden, _ = stack(ConvNextLayer, config, count, f"stage_{stage}")(hidden, per_layer, keys)
            states.append(hidden)
            first += count
        pooled = widened(hidden).mean(axis=(1, 2))
        return ModelOutput(
            last_hidden_state=hidden,
            pooler_output=layer_norm(config, config.layer_norm_eps, "norm")(pooled),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class ConvNextForImageClassification(ImageClassifier, ConvNextBase):
    """Output: `logits` (batch, labels), beside those of the model without the head."""

    base: ClassVar[type[Model]] = ConvNextModel
    base_name: ClassVar[str] = "convnext"

    def head(self, encoded, batch_axes):
        config = self.config
        stddev = config.initializer_range * config.head_init_scale
        head = dense(config, len(config.labels), "classifier", ("embed", "head_out"), stddev=stddev)
        return dict(logits=head(encoded.pooler_output))
