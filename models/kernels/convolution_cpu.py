"""Convolutions as XLA's CPU backend is fast at them: matrix products of patches, and sums of shifted images.

Its own depthwise convolution takes about twenty times as long as a sum over the kernel's places, and its gradients of
kernels mostly longer than a matrix product. Where neither helps (grouped, but not depthwise), they are what is left.
All are compiled as they are, so that without `jit` too a convolution is one program. The maximum over windows stands below.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from models.kernels import convolution_window as plain
from models.kernels.convolution_window import Image, Kernel, Window
from models.kernels.linear import over_rows
from models.kernels.platform import on_all_cores

IN_BOUNDS = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
COLUMNS = 14
"""How many columns at a time the gradient of a depthwise kernel adds up within one loop."""


def patched(window: Window) -> bool:
    """Whether each place of the images is seen once: the images are cut into patches and nothing is padded."""
    return window.size == window.stride and window.padding == (0, 0) and window.groups == 1


def depthwise(window: Window, channels: int, features: int) -> bool:
    """Whether each channel has a kernel of its own; the padding must leave some of that on the image."""
    inside = window.padding[0] < window.size[0] and window.padding[1] < window.size[1]
    return window.groups == channels == features and window.stride == (1, 1) and inside


@functools.partial(jax.jit, static_argnames="window")
def forward(x: Image, kernel: Kernel, window: Window) -> Image:
    """The convolution, as `models.kernels.convolution_window` has it."""
    if depthwise(window, x.shape[-1], kernel.shape[-1]):
        return shifted_sum(x, kernel, window.padding)
    if window.groups > 1 or not patched(window):
        return on_all_cores(plain.forward(x, kernel, window))
    return patches(x, window) @ kernel.reshape(-1, kernel.shape[-1])


@functools.partial(jax.jit, static_argnames=("window", "shape"))
def input_gradient(gradient: Image, kernel: Kernel, window: Window, shape: tuple[int, ...]) -> Image:
    """The gradient with respect to the images, which are of this shape."""
    if depthwise(window, shape[-1], kernel.shape[-1]):
        padding = (window.size[0] - 1 - window.padding[0], window.size[1] - 1 - window.padding[1])
        return shifted_sum(gradient, kernel[::-1, ::-1], padding)
    if window.groups > 1 or not patched(window):
        return on_all_cores(plain.input_gradient(gradient, kernel, window, shape))
    rows = gradient @ kernel.reshape(-1, kernel.shape[-1]).T
    height, width = window.size
    images = rearrange(rows, "b h w (i j c) -> b (h i) (w j) c", i=height, j=width)
    unseen = [(0, whole - seen) for whole, seen in zip(shape, images.shape, strict=True)]
    return jnp.pad(images, unseen)


@functools.partial(jax.jit, static_argnames=("window", "dtype"))
def kernel_gradient(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """The gradient with respect to the kernel, in this dtype."""
    features = gradient.shape[-1]
    if depthwise(window, x.shape[-1], features):
        return depthwise_kernel_gradient(x, gradient, window).astype(dtype)
    if window.groups > 1:
        return plain.kernel_gradient(x, gradient, window, dtype)
    inside = all(p < size for p, size in zip(window.padding, window.size, strict=True))
    (height, width), channels = window.size, x.shape[-1]
    less = height * channels + width * features < height * width * channels
    if window.stride == (1, 1) and inside and less and not patched(window):
        return _kernel_gradient_by_sides(x, gradient, window, dtype)
    rows = patches(x, window).reshape(-1, height * width * channels)
    return over_rows(rows, gradient.reshape(-1, features), dtype).reshape(height, width, channels, features)


def _kernel_gradient_by_sides(x: Image, gradient: Image, window: Window, dtype: jnp.dtype) -> Kernel:
    """One product, of what each of the kernel's rows sees of the images and what each of its columns meets of the gradient:
    less to be written down than all that the kernel sees at each place, unless there are many more features than channels.
    """
    (height, width), rows = window.size, gradient.shape[1]
    x = pad(x, (window.padding[0], 0))
    gradient = pad(gradient, (0, width - 1 - window.padding[1]))
    seen = rearrange(x.at[:, within(rows, height)].get(mode=IN_BOUNDS), "b h i w c -> (b h w) (i c)")
    met = gradient.at[:, :, within(x.shape[2], width)[:, ::-1]].get(mode=IN_BOUNDS)
    kernel = over_rows(seen, rearrange(met, "b h w j f -> (b h w) (j f)"), dtype)
    return rearrange(kernel, "(i c) (j f) -> i j c f", i=height, j=width)


def patches(x: Image, window: Window) -> Float[Array, "batch _height _width _patch"]:
    """All that the kernel sees at each place, side by side: rows, then columns, then channels."""
    if patched(window):
        (height, width), (rows, columns) = window.size, window.places(x.shape)
        seen = x[:, : rows * height, : columns * width]
        return rearrange(seen, "b (h i) (w j) c -> b h w (i j c)", i=height, j=width)
    rows, columns = window.places(x.shape)
    rows, columns = within(rows, window.size[0], window.stride[0]), within(columns, window.size[1], window.stride[1])
    seen = pad(x, window.padding).at[:, rows[:, None, :, None], columns[None, :, None, :]].get(mode=IN_BOUNDS)
    return rearrange(seen, "b h w i j c -> b h w (i j c)")


def within(places: int, size: int, stride: int = 1) -> Int[np.ndarray, "places size"]:
    """Where along an axis each place of a kernel of this size looks. XLA looks there faster than it joins slices."""
    return np.arange(places)[:, None] * stride + np.arange(size)


def shifted(x: Image, window: Window) -> list[Image]:
    """What each place of the kernel sees of padded images, by rows."""
    (height, width), (down, right) = window.size, window.stride
    rows, columns = dataclasses.replace(window, padding=(0, 0)).places(x.shape)
    return [
        x[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right]
        for i in range(height)
        for j in range(width)
    ]


def pad(x: Image, padding: tuple[int, int], value: float = 0.0) -> Image:
    """Rows and columns of this value on both sides."""
    around = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    return jnp.pad(x, around, constant_values=value)


def widened(x: Array) -> Array:
    """Numbers to add up: in float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


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


@functools.partial(jax.jit, static_argnames="window")
def max_pool(x: Image, window: Window) -> Image:
    """The largest value in each window, as `models.kernels.convolution_window` has it."""
    return functools.reduce(jnp.maximum, shifted(pad(x, window.padding, -jnp.inf), window))


@functools.partial(jax.jit, static_argnames="window")
def max_pool_gradient(x: Image, gradient: Image, window: Window) -> Image:
    """The gradient with respect to the images: to the first of the largest values in each window.

    XLA's CPU backend looks for that with four arrays of indices as large as the images.
    """
    seen = shifted(pad(x, window.padding, -jnp.inf), window)
    most, first = seen[0], jnp.zeros(gradient.shape, jnp.int32)
    for number, values in enumerate(seen[1:], 1):
        first = jnp.where(values > most, number, first)
        most = jnp.maximum(most, values)
    first = jax.lax.optimization_barrier(first)
    _, height, width, _ = pad(x, window.padding).shape
    (down, right), (_, rows, columns, _) = window.stride, gradient.shape
    total = jnp.zeros((), gradient.dtype)
    for number in range(len(seen)):
        i, j = divmod(number, window.size[1])
        below, beside = height - i - (rows - 1) * down - 1, width - j - (columns - 1) * right - 1
        spread = ((0, 0, 0), (i, below, down - 1), (j, beside, right - 1), (0, 0, 0))
        total += jax.lax.pad(jnp.where(first == number, gradient, 0.0), jnp.zeros((), gradient.dtype), spread)
    (above, before), (_, whole_height, whole_width, _) = window.padding, x.shape
    return total[:, above : above + whole_height, before : before + whole_width]
