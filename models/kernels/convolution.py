"""Convolution: XLA's, and what XLA's CPU backend is faster at: products of patches, and sums of shifted images.

Its own depthwise convolution takes about twenty times as long as a sum over the kernel's places, and its gradients of
kernels mostly longer than a matrix product. Where neither helps (grouped, but not depthwise), they are what is left.
The versions for CPUs are compiled as they are, so that without `jit` too a convolution is one program.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from models.kernels.gradient import with_gradient
from models.kernels.linear import matmul, product_over_rows
from models.kernels.platform import on_all_cores
from models.kernels.precision import widened
from models.kernels.window import Image, Pair, Window, pad

Kernel = Float[Array, "height width in out"]
IN_BOUNDS = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
COLUMNS = 14
"""How many columns at a time the gradient of a depthwise kernel adds up within one loop."""


def convolve(
    x: Image,
    kernel: Kernel,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
    dilation: Pair = (1, 1),
) -> Image:
    """The cross-correlation of `x`, padded with zeros on both sides, with `kernel`, in the dtype of `x`.

    The kernel's gradient is in the kernel's dtype (`models.kernels.linear`).
    """
    if kernel.shape[:2] == (1, 1) and padding == (0, 0) and groups == 1:
        return matmul(x[:, :: stride[0], :: stride[1]], kernel[0, 0])
    return _convolve(x, kernel, window=Window(kernel.shape[:2], stride, padding, groups, dilation))


def _reference(x, kernel, *, window):
    return xla_forward(x, kernel.astype(x.dtype), window)


def _forward(x, kernel, *, window):
    versions = (functools.partial(version, window=window) for version in (cpu_forward, xla_forward))
    return _by_platform(x, kernel.astype(x.dtype), *versions), (x, kernel)


def _backward(residuals, gradient, *, window):
    x, kernel = residuals
    settings = dict(window=window, shape=x.shape)
    versions = (functools.partial(version, **settings) for version in (cpu_input_gradient, xla_input_gradient))
    inputs = _by_platform(gradient, kernel.astype(x.dtype), *versions)
    settings = dict(window=window, dtype=kernel.dtype)
    versions = (functools.partial(version, **settings) for version in (cpu_kernel_gradient, xla_kernel_gradient))
    return inputs, _by_platform(x, gradient, *versions)


def _by_platform(x, y, cpu, default):
    return jax.lax.platform_dependent(x, y, cpu=cpu, default=default)


_convolve = with_gradient(_reference, _forward, _backward)


def xla_forward(x: Image, kernel: Kernel, window: Window) -> Image:
    """The convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        [(length, length) for length in window.padding],
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def xla_input_gradient(gradient: Image, kernel: Kernel, window: Window, shape: tuple[int, ...]) -> Image:
    """The gradient with respect to the images, which are of this shape."""
    images = jax.ShapeDtypeStruct(shape, gradient.dtype)
    (inputs,) = jax.linear_transpose(lambda x: xla_forward(x, kernel, window), images)(gradient)
    return inputs


def xla_kernel_gradient(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """The gradient with respect to the kernel, computed in this dtype: a convolution of the images by the gradient.

    Channels are there what examples are else. JAX would round it to the dtype of the images.
    """
    padding = []
    for axis in (0, 1):
        reach = (gradient.shape[axis + 1] - 1) * window.stride[axis] + window.reach[axis]
        padding.append((window.padding[axis], reach - x.shape[axis + 1] - window.padding[axis]))
    return jax.lax.conv_general_dilated(
        x,
        gradient,
        window.dilation,
        padding,
        rhs_dilation=window.stride,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=window.groups,
        preferred_element_type=dtype,
    )


def patched(window: Window) -> bool:
    """Whether each place of the images is seen once: the images are cut into patches and nothing is padded."""
    plain = window.padding == (0, 0) and window.groups == 1 and window.dilation == (1, 1)
    return window.size == window.stride and plain


def depthwise(window: Window, channels: int, features: int) -> bool:
    """Whether each channel has a kernel of its own; the padding must leave some of that on the image."""
    return window.groups == channels == features and window.stride == (1, 1) and inside(window)


def inside(window: Window) -> bool:
    """Whether some of the kernel is on the image at each place, its places side by side."""
    return window.padding[0] < window.size[0] and window.padding[1] < window.size[1] and window.dilation == (1, 1)


@functools.partial(jax.jit, static_argnames="window")
def cpu_forward(x: Image, kernel: Kernel, window: Window) -> Image:
    """The convolution."""
    if depthwise(window, x.shape[-1], kernel.shape[-1]):
        return shifted_sum(x, kernel, window.padding)
    if window.groups > 1 or not patched(window):
        return on_all_cores(xla_forward(x, kernel, window))
    return patches(x, window) @ kernel.reshape(-1, kernel.shape[-1])


@functools.partial(jax.jit, static_argnames=("window", "shape"))
def cpu_input_gradient(gradient: Image, kernel: Kernel, window: Window, shape: tuple[int, ...]) -> Image:
    """The gradient with respect to the images, which are of this shape."""
    if depthwise(window, shape[-1], kernel.shape[-1]):
        padding = (window.size[0] - 1 - window.padding[0], window.size[1] - 1 - window.padding[1])
        return shifted_sum(gradient, kernel[::-1, ::-1], padding)
    if window.groups > 1 and window.stride == (1, 1) and inside(window):
        return _input_gradient_by_groups(gradient, kernel, window)
    if window.groups > 1 or not patched(window):
        return on_all_cores(xla_input_gradient(gradient, kernel, window, shape))
    rows = gradient @ kernel.reshape(-1, kernel.shape[-1]).T
    height, width = window.size
    images = rearrange(rows, "b h w (i j c) -> b (h i) (w j) c", i=height, j=width)
    unseen = [(0, whole - seen) for whole, seen in zip(shape, images.shape, strict=True)]
    return jnp.pad(images, unseen)


def _input_gradient_by_groups(gradient: Image, kernel: Kernel, window: Window) -> Image:
    """The convolution of the gradient with the kernel turned around; XLA takes ten times as long where its padding is odd."""
    rows, columns = (np.arange(size)[::-1] for size in window.size)
    turned = kernel.at[rows[:, None], columns].get(mode=IN_BOUNDS)
    turned = rearrange(turned, "h w c (group f) -> h w f (group c)", group=window.groups)
    padding = [size - 1 - before for size, before in zip(window.size, window.padding, strict=True)]
    odd = [length % 2 for length in padding]
    even = (padding[0] + odd[0], padding[1] + odd[1])
    inputs = on_all_cores(xla_forward(gradient, turned, dataclasses.replace(window, padding=even)))
    height, width = inputs.shape[1:3]
    return inputs[:, odd[0] : height - odd[0], odd[1] : width - odd[1]]


@functools.partial(jax.jit, static_argnames=("window", "dtype"))
def cpu_kernel_gradient(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """The gradient with respect to the kernel, in this dtype."""
    features = gradient.shape[-1]
    if depthwise(window, x.shape[-1], features):
        return depthwise_kernel_gradient(x, gradient, window).astype(dtype)
    if window.groups > 1:
        return _kernel_gradient_by_groups(x, gradient, window, dtype)
    (height, width), channels = window.size, x.shape[-1]
    less = height * channels + width * features < height * width * channels
    if window.stride == (1, 1) and inside(window) and less and not patched(window):
        return _kernel_gradient_by_sides(x, gradient, window, dtype)
    rows = patches(x, window).reshape(-1, height * width * channels)
    return product_over_rows(rows, gradient.reshape(-1, features), dtype).reshape(height, width, channels, features)


def _kernel_gradient_by_groups(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """Group after group, each as a convolution alone: XLA's own takes some eighty times as long."""
    alone = dataclasses.replace(window, groups=1)
    parts = [rearrange(y, "b h w (group c) -> group b h w c", group=window.groups) for y in (x, gradient)]
    kernels = jax.lax.map(lambda part: cpu_kernel_gradient(*part, alone, dtype), tuple(parts))
    return rearrange(kernels, "group i j c f -> i j c (group f)")


def _kernel_gradient_by_sides(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """One product, of what each of the kernel's rows sees of the images and what each of its columns meets of the gradient:
    less to be written down than all that the kernel sees at each place, unless there are many more features than channels.
    """
    (height, width), rows = window.size, gradient.shape[1]
    x = pad(x, (window.padding[0], 0))
    gradient = pad(gradient, (0, width - 1 - window.padding[1]))
    seen = rearrange(x.at[:, within(rows, height)].get(mode=IN_BOUNDS), "b h i w c -> (b h w) (i c)")
    met = gradient.at[:, :, within(x.shape[2], width)[:, ::-1]].get(mode=IN_BOUNDS)
    kernel = product_over_rows(seen, rearrange(met, "b h w j f -> (b h w) (j f)"), dtype)
    return rearrange(kernel, "(i c) (j f) -> i j c f", i=height, j=width)


def patches(x: Image, window: Window) -> Float[Array, "batch _height _width _patch"]:
    """All that the kernel sees at each place, side by side: rows, then columns, then channels."""
    if patched(window):
        (height, width), (rows, columns) = window.size, window.places(x.shape)
        seen = x[:, : rows * height, : columns * width]
        return rearrange(seen, "b (h i) (w j) c -> b h w (i j c)", i=height, j=width)
    rows, columns = window.places(x.shape)
    rows, columns = (
        within(places, window.size[axis], window.stride[axis], window.dilation[axis])
        for axis, places in enumerate((rows, columns))
    )
    seen = pad(x, window.padding).at[:, rows[:, None, :, None], columns[None, :, None, :]].get(mode=IN_BOUNDS)
    return rearrange(seen, "b h w i j c -> b h w (i j c)")


def within(places: int, size: int, stride: int = 1, dilation: int = 1) -> Int[np.ndarray, "places size"]:
    """Where along an axis each place of a kernel of this size looks. XLA looks there faster than it joins slices."""
    return np.arange(places)[:, None] * stride + np.arange(size) * dilation


def shifted_sum(x: Image, kernel: Kernel, padding: tuple[int, int]) -> Image:
    """A depthwise convolution: one multiply-add per place of the kernel, all of them in one loop over the image."""
    height, width, _, channels = kernel.shape
    wide = pad(widened(x), padding)
    rows, columns = wide.shape[1] - height + 1, wide.shape[2] - width + 1
    weights = widened(kernel).reshape(height, width, 1, 1, 1, channels)
    total = sum(wide[:, i : i + rows, j : j + columns] * weights[i, j] for i in range(height) for j in range(width))
    return total.astype(x.dtype)


def depthwise_kernel_gradient(x: Image, gradient: Image, window: Window) -> Kernel:
    """Σ over examples, rows h and columns w of x[h + i, w + j] · gradient[h, w], for each place (i, j) of the kernel.

    The columns of a strip are added up in one loop for all j, which leaves little to XLA's slow sum over leading axes.
    Stacked, for else XLA makes one loop of both, which takes many times as long.
    """
    height, width = window.size
    _, rows, columns, _ = gradient.shape
    size = min(columns, COLUMNS)
    strips = -(-columns // size)
    wide = ((0, 0), (0, 0), (0, strips * size - columns), (0, 0))
    x = jnp.pad(pad(widened(x), window.padding), wide)
    gradient = jnp.pad(widened(gradient), wide)
    gradient = rearrange(gradient, "b h (strip w) c -> b h strip w c", w=size)
    x = jnp.stack([x[:, :, first : first + size + width - 1] for first in range(0, strips * size, size)], axis=2)
    sums = [
        sum(x[:, i : i + rows, :, w : w + width] * gradient[:, :, :, w : w + 1] for w in range(size))
        for i in range(height)
    ]
    kernel = jax.lax.optimization_barrier(jnp.stack(sums)).sum(axis=(1, 2, 3))
    return kernel[:, :, None]
