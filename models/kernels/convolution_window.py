"""XLA's convolution and maximum over windows, and their gradients, as accelerators run them."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "batch _height _width _channels"]
Kernel = Float[Array, "height width in out"]
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
    """What a convolution or a maximum sees at each place.

    Attributes:
        size: of the kernel, (height, width) like the others.
        padding: rows and columns on both sides: of zeros, or of nothing for a maximum.
        groups: parts of the channels, each seen by its own part of the outputs.
    """

    size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1

    def places(self, shape: tuple[int, ...]) -> Pair:
        """Height and width of what comes of an image of this shape."""
        height, width = (
            (shape[axis + 1] + 2 * self.padding[axis] - self.size[axis]) // self.stride[axis] + 1 for axis in (0, 1)
        )
        return height, width


def forward(x: Image, kernel: Kernel, window: Window) -> Image:
    """The convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        [(length, length) for length in window.padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def input_gradient(gradient: Image, kernel: Kernel, window: Window, shape: tuple[int, ...]) -> Image:
    """The gradient with respect to the images, which are of this shape."""
    images = jax.ShapeDtypeStruct(shape, gradient.dtype)
    (found,) = jax.linear_transpose(lambda x: forward(x, kernel, window), images)(gradient)
    return found


def kernel_gradient(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """The gradient with respect to the kernel, computed in this dtype: a convolution of the images by the gradient.

    Channels are there what examples are else. JAX would round it to the dtype of the images.
    """
    padding = []
    for axis in (0, 1):
        reach = (gradient.shape[axis + 1] - 1) * window.stride[axis] + window.size[axis]
        padding.append((window.padding[axis], reach - x.shape[axis + 1] - window.padding[axis]))
    return jax.lax.conv_general_dilated(
        x,
        gradient,
        (1, 1),
        padding,
        rhs_dilation=window.stride,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=window.groups,
        preferred_element_type=dtype,
    )


def max_pool_forward(x: Image, window: Window) -> Image:
    """The largest value in each window."""
    return nn.max_pool(x, window.size, window.stride, tuple((length, length) for length in window.padding))


def max_pool_gradient(x: Image, gradient: Image, window: Window) -> Image:
    """The gradient with respect to the images: to the first of the largest values in each window."""
    (found,) = jax.vjp(functools.partial(max_pool_forward, window=window), x)[1](gradient)
    return found
