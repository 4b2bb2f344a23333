"""GLPN: metric depth from one picture, by a Mix Transformer and a decoder that weighs what each stage saw.

Kim, Ka, Ahn, Joo, Chun, Kim: "Global-Local Path Networks for Monocular Depth Estimation with Vertical CutDepth", 2022,
arXiv 2201.07436.
"""

import dataclasses
import itertools
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import ModelError, Variant
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.convolution import Conv, Image
from models.layers.dropout import Keys
from models.layers.linear import torch_uniform
from models.layers.norm import BatchAxes, BatchNorm
from models.layers.resize import doubled
from models.mix_transformer import MixTransformer, MixTransformerConfig
from models.model import Model
from models.outputs import ModelOutput


@dataclasses.dataclass(frozen=True)
class GLPNConfig(MixTransformerConfig):
    """Shape of a GLPN, with the field names of a published `config.json`; the encoder's are in `MixTransformerConfig`.

    Attributes:
        decoder_hidden_size: features of the decoder.
        max_depth: metres; no prediction is greater.
        head_in_index: from which of the decoder's stages depth is read; the last has the resolution of the picture.
    """

    model_type: ClassVar[str] = "glpn"
    begins_as: ClassVar[tuple[str, str] | None] = ("segformer", "SegformerForImageClassification")
    variants: ClassVar[tuple[str, ...]] = ("b0", "b1", "b2", "b3", "b4", "b5", "nyu", "kitti")

    decoder_hidden_size: int = 64
    max_depth: int = 10
    head_in_index: int = -1

    nyu = Variant(hidden_sizes=(64, 128, 320, 512), depths=(3, 8, 27, 3))
    kitti = Variant(nyu, max_depth=80)

    def _check(self, name: str, value: Any, default: Any) -> None:
        if name != "head_in_index":  # which counts from the end where it is negative
            super()._check(name, value, default)

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = self.num_encoder_blocks
        if isinstance(self.head_in_index, bool) or self.head_in_index not in range(-stages, stages):
            raise ModelError(f"head_in_index={self.head_in_index!r}: the decoder has {stages} stages")
        if self.decoder_hidden_size % 2:
            raise ModelError(f"decoder_hidden_size={self.decoder_hidden_size}: expected an even number")

    def check_size(self, height: int, width: int) -> None:
        """Raise `ModelError` unless each stage halves what came before, so that the decoder can double it."""
        grids = self.grids(height, width)
        for (rows, columns), (fewer, narrower) in itertools.pairwise(grids):
            if (rows, columns) != (2 * fewer, 2 * narrower):
                raise ModelError(
                    f"an image of {height} × {width} does not halve from stage to stage (strides={self.strides}), as the"
                    f" decoder needs it: expected height and width in multiples of {math.prod(self.strides)}"
                )


class GLPNModel(MixTransformer):
    """The encoder; see `MixTransformer`."""

    config: GLPNConfig


class SelectiveFeatureFusion(nn.Module):
    """What a stage of the encoder saw (local) and what the decoder has so far (global), each weighed at each place by a number
    between 0 and 1 that is computed of both (the paper's section 3.4)."""

    config: GLPNConfig

    @nn.compact
    def __call__(self, local: Image, whole: Image, batch_axes: BatchAxes) -> Image:
        config, features = self.config, self.config.decoder_hidden_size
        hidden = jnp.concatenate([local, whole], axis=-1)
        for number, width in enumerate((features, features // 2)):
            hidden = convolution(config, width, f"conv_{number}")(hidden)
            hidden = activation("relu")(BatchNorm(config, name=f"norm_{number}")(hidden, batch_axes))
        weights = jax.nn.sigmoid(convolution(config, 2, "conv_2")(hidden))
        return local * weights[..., :1] + whole * weights[..., 1:]


def convolution(config: GLPNConfig, features: int, name: str, size: int = 3) -> Conv:
    """A convolution that keeps the size, and begins as torch's do."""
    return Conv(config, features, size, padding=size // 2, kernel_init=torch_uniform, name=name)


class GLPNDecoder(nn.Module):
    """From the last stage to the first: features of one width, fused with what there is so far, and doubled.

    Returns what each stage gives, in this order; the last is doubled twice.
    """

    config: GLPNConfig

    @nn.compact
    def __call__(self, states: tuple[Image, ...], batch_axes: BatchAxes) -> list[Image]:
        config, decoded = self.config, []
        for stage, hidden in enumerate(reversed(states)):
            if hidden.shape[-1] != config.decoder_hidden_size:
                name = f"convolution_{stage}"
                hidden = convolution(config, config.decoder_hidden_size, name, size=1)(hidden)
            if decoded:
                hidden = SelectiveFeatureFusion(config, name=f"fusion_{stage}")(hidden, decoded[-1], batch_axes)
            decoded.append(doubled(hidden))
        return [*decoded[:-1], doubled(decoded[-1])]


class GLPNForDepthEstimation(Model):
    """Output: `predicted_depth` (batch, height, width) in metres, below `max_depth`; `hidden_states`, the feature map of each
    of the encoder's stages, and `attentions` of its layers (`MixTransformer`), where asked for.

    Pictures are of values in [0, 1], without mean and deviation. A fresh decoder begins as torch's convolutions do.

    Raises:
        ModelError: the images have other channels than the model, or sides that are no multiples of 32.
    """

    batch_statistics: ClassVar[bool] = True

    config: GLPNConfig

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        config = self.config
        config.check_size(*pixel_values.shape[1:3])
        asked = dict(output_hidden_states=True, output_attentions=output_attentions)
        encoded = GLPNModel(config, name="encoder")(pixel_values, dropout_keys=dropout_keys, **asked)
        decoded = GLPNDecoder(config, name="decoder")(encoded.hidden_states, batch_axes)
        return ModelOutput(
            predicted_depth=self._depth(decoded[config.head_in_index]),
            hidden_states=encoded.hidden_states if output_hidden_states else None,
            attentions=encoded.get("attentions"),
        )

    def _depth(self, hidden: Image) -> Float[Array, "batch height width"]:
        """Two convolutions, and a sigmoid of what they give, in float32 or wider."""
        config = self.config
        hidden = activation("relu")(convolution(config, config.decoder_hidden_size, "head_0")(hidden))
        return jax.nn.sigmoid(widened(convolution(config, 1, "head_1")(hidden))[..., 0]) * config.max_depth
