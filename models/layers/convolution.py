"""Convolutions. Images are (batch, height, width, channels)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from models.config import ModelConfig, ModelError
from models.kernels.convolution import convolve
from models.kernels.linear import add_bias
from models.kernels.window import Image, Pair
from models.layers.linear import PROJECTION, Initializer, by_example, truncated_normal


def pair(size: int | Sequence[int]) -> Pair:
    """(height, width) of a size that may be one number for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_image(config: ModelConfig, pixel_values: Image, least: Pair = (1, 1)) -> None:
    """Raise unless images have the channels that the config names, and at least so many rows and columns."""
    _, height, width, channels = pixel_values.shape
    if channels != config.num_channels:
        raise ModelError(
            f"pixel_values has {channels} channels, num_channels={config.num_channels}: "
            f"images are (batch, height, width, channels), here {pixel_values.shape}"
        )
    if height < least[0] or width < least[1]:
        raise ModelError(
            f"an image of {height} × {width} pixels is too small: this model wants {least[0]} × {least[1]}"
        )


def places(length: int, kernel: int, stride: int, padding: int) -> int:
    """How many places a kernel has along an axis of `length`, padded on both sides: what is left of that axis."""
    return (length + 2 * padding - kernel) // stride + 1


class Conv(nn.Module):
    """A convolution of `features` outputs.

    Attributes:
        kernel_size, stride, padding: (height, width), or one number for both.
        groups: the channels are cut into so many parts, each seen by its part of the outputs; as many as there are
            channels make it depthwise.
        dilation: how far apart neighbours within the kernel look, in both directions.
    """

    config: ModelConfig
    features: int
    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair = 0
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = truncated_normal(0.02)
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Image) -> Image:
        dtype = jnp.dtype(self.config.param_dtype)
        init = nn.with_logical_partitioning(self.kernel_init, ("height", "width", None, "embed"))
        shape = (*pair(self.kernel_size), x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", init, shape, dtype)
        shape = pair(self.stride), pair(self.padding), self.groups, pair(self.dilation)
        y = convolve(x.astype(self.config.compute_dtype), kernel, *shape)
        y = by_example(checkpoint_name(y, PROJECTION))
        if not self.use_bias:
            return y
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("embed",))
        return add_bias(y, self.param("bias", bias_init, (self.features,), dtype))
