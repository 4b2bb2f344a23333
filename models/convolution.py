"""Convolution and batch normalisation: what the vision models share. Images are (batch, height, width, channels)."""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from models import convolution_cpu
from models.config import ModelConfig, ModelError
from models.convolution_window import (
    Image,
    Kernel,
    Pair,
    Window,
    forward,
    input_gradient,
    kernel_gradient,
    max_pool_forward,
    max_pool_gradient,
)
from models.layers import PROJECTION, Initializer, add_bias, anew, by_example, matmul, truncated_normal

BatchAxes = tuple[str, ...] | None
"""Whose statistics a batch norm uses: `None` for its running ones; else those of the batch, over these mapped axes, too."""


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


def convolve(
    x: Image,
    kernel: Kernel,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Image:
    """The cross-correlation of `x`, padded with zeros on both sides, with `kernel`, in the dtype of `x`.

    The kernel's gradient is in its own dtype, for the reason that `models.layers.matmul` gives. On accelerators this is
    XLA's convolution; on CPUs, where that is slow, what `models.convolution_cpu` makes of it. The numbers are the same.
    """
    if kernel.shape[:2] == (1, 1) and padding == (0, 0) and groups == 1:
        return matmul(x[:, :: stride[0], :: stride[1]], kernel[0, 0])
    return _convolve(x, kernel, Window(kernel.shape[:2], stride, padding, groups))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Image, kernel: Kernel, window: Window) -> Image:
    return _convolve_forward(x, kernel, window)[0]


def _convolve_forward(x: Image, kernel: Kernel, window: Window) -> tuple[Image, tuple[Image, Kernel]]:
    y = jax.lax.platform_dependent(
        x,
        kernel.astype(x.dtype),
        cpu=functools.partial(convolution_cpu.forward, window=window),
        default=functools.partial(forward, window=window),
    )
    return y, (x, kernel)


def _convolve_backward(window: Window, saved: tuple[Image, Kernel], gradient: Image) -> tuple[Image, Kernel]:
    x, kernel = saved
    as_seen = kernel.astype(x.dtype)
    settings = dict(window=window, shape=x.shape)
    inputs = jax.lax.platform_dependent(
        gradient,
        as_seen,
        cpu=functools.partial(convolution_cpu.input_gradient, **settings),
        default=functools.partial(input_gradient, **settings),
    )
    settings = dict(window=window, dtype=kernel.dtype)
    weights = jax.lax.platform_dependent(
        x,
        gradient,
        cpu=functools.partial(convolution_cpu.kernel_gradient, **settings),
        default=functools.partial(kernel_gradient, **settings),
    )
    return inputs, weights


_convolve.defvjp(_convolve_forward, _convolve_backward)


class Conv(nn.Module):
    """A convolution, `kernel` (height, width, in / groups, features) and `bias` (features). See `conv`."""

    config: ModelConfig
    features: int
    kernel_size: Pair
    stride: Pair
    padding: Pair
    groups: int
    use_bias: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Image) -> Image:
        dtype = jnp.dtype(self.config.param_dtype)
        init = nn.with_logical_partitioning(self.kernel_init, (None, None, None, "embed"))
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", init, shape, dtype)
        y = convolve(x.astype(self.config.compute_dtype), kernel, self.stride, self.padding, self.groups)
        y = by_example(checkpoint_name(y, PROJECTION))
        if not self.use_bias:
            return y
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("embed",))
        return add_bias(y, self.param("bias", bias_init, (self.features,), dtype))


def conv(
    config: ModelConfig,
    features: int,
    kernel_size: int | Sequence[int],
    name: str | None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    bias: bool = True,
    stddev: float = 0.02,
    kernel_init: Initializer | None = None,
) -> Conv:
    """A convolution of `features` outputs, its kernel N(0, stddev²) cut at ±2 stddev at first.

    Args:
        groups: the channels are cut into so many parts, each seen by its own part of the outputs; as many as there are
            channels make it depthwise.
    """
    return Conv(
        config,
        features,
        pair(kernel_size),
        pair(stride),
        pair(padding),
        groups,
        bias,
        kernel_init or truncated_normal(stddev),
        name=name,
    )


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy, 2015, arXiv 1502.03167), in float32.

    Parameters `scale` and `bias`; in the collection `batch_stats` the running `mean` and `var` (of the unbiased estimate, as
    torch keeps it). With `batch_axes` the statistics are those of the whole batch, over the mapped axes too: the same
    however it is spread over devices.

    Attributes:
        momentum: the share of a batch in the running statistics.
        frozen: use the running statistics whatever is asked for, and give scale and bias no gradient.
    """

    config: ModelConfig
    epsilon: float = 1e-5
    momentum: float = 0.1
    scale_init: Initializer = nn.initializers.ones
    frozen: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "... features"], batch_axes: BatchAxes = None) -> Float[Array, "... features"]:
        shape, dtype = x.shape[-1:], jnp.dtype(self.config.param_dtype)
        scale = self.param("scale", nn.with_logical_partitioning(self.scale_init, ("norm",)), shape, dtype)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("norm",)), shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if self.frozen:
            scale, bias, batch_axes = jax.lax.stop_gradient(scale), jax.lax.stop_gradient(bias), None
        if batch_axes is not None:
            y, mean, var = batch_normalized(x, scale, bias, self.epsilon, batch_axes)
            if not self.is_initializing():
                count = math.prod(x.shape[:-1]) * jax.lax.psum(1, batch_axes)
                self._move(running_mean, mean)
                self._move(running_var, var * (count / max(count - 1, 1)))
            return y.astype(self.config.compute_dtype)
        factor = jax.lax.rsqrt(running_var.value + self.epsilon) * scale.astype(jnp.float32)
        mean, factor, bias = (jnp.expand_dims(y, range(x.ndim - 1)) for y in (running_mean.value, factor, bias))
        return ((x.astype(jnp.float32) - mean) * factor + bias).astype(self.config.compute_dtype)

    def _move(self, running: nn.Variable, found: Float[Array, " features"]) -> None:
        """Bring a running statistic nearer to what this batch has."""
        running.value = (1 - self.momentum) * running.value + self.momentum * jax.lax.stop_gradient(found)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_normalized(
    x: Float[Array, "... features"],
    scale: Float[Array, " features"],
    bias: Float[Array, " features"],
    epsilon: float,
    batch_axes: tuple[str, ...],
) -> tuple[Float[Array, "... features"], Float[Array, " features"], Float[Array, " features"]]:
    """(x - mean) / √(variance + epsilon) · scale + bias in the dtype of `x`, and the mean and the variance, over all axes but
    the last and over `batch_axes`, in float32. Mean and variance pass no gradient on.

    The backward pass keeps `x` and the statistics, and goes over `x` and the gradient twice (`models.layers.normalized`).
    """
    return _batch_normalized_forward(x, scale, bias, epsilon, batch_axes)[0]


def _batch_normalized_forward(x, scale, bias, epsilon, batch_axes):
    rows = tuple(range(x.ndim - 1))
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = across(wide.mean(axis=rows), batch_axes)
    var = across(((wide - jnp.expand_dims(mean, rows)) ** 2).mean(axis=rows), batch_axes)
    inverse, mean = jax.lax.rsqrt(var + epsilon), anew(mean)
    y = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse * scale, rows) + jnp.expand_dims(bias, rows)
    return (y.astype(x.dtype), mean, var), (x, mean, inverse, scale)


def _batch_normalized_backward(epsilon, batch_axes, saved, gradients):
    x, mean, inverse, scale = saved
    rows, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    gradient, wide = gradients[0].astype(inverse.dtype), x.astype(inverse.dtype)
    normed = (wide - jnp.expand_dims(mean, rows)) * jnp.expand_dims(inverse, rows)
    biases = gradient.sum(axis=rows)
    scales = (gradient * (wide - jnp.expand_dims(anew(mean), rows))).sum(axis=rows) * inverse
    along, beside = (jnp.expand_dims(across(y, batch_axes) / count, rows) for y in (scales, biases))
    inputs = jnp.expand_dims(inverse * scale, rows) * (gradient - beside - normed * along)
    return inputs.astype(x.dtype), scales.astype(scale.dtype), biases.astype(scale.dtype)


batch_normalized.defvjp(_batch_normalized_forward, _batch_normalized_backward)


def across(x: Array, axes: tuple[str, ...]) -> Array:
    """The mean of `x` over mapped axes."""
    return jax.lax.pmean(x, axes) if axes else x


def max_pool(x: Image, size: Pair, stride: Pair, padding: Pair) -> Image:
    """The largest value in each window; what lies outside of the image is none. Of equals the first gets the gradient."""
    return _max_pool(x, Window(size, stride, padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Image, window: Window) -> Image:
    return _max_pool_forward(x, window)[0]


def _max_pool_forward(x: Image, window: Window) -> tuple[Image, Image]:
    by = functools.partial(convolution_cpu.max_pool, window=window)
    return jax.lax.platform_dependent(x, cpu=by, default=functools.partial(max_pool_forward, window=window)), x


def _max_pool_backward(window: Window, x: Image, gradient: Image) -> tuple[Image]:
    settings = dict(window=window)
    return (
        jax.lax.platform_dependent(
            x,
            gradient,
            cpu=functools.partial(convolution_cpu.max_pool_gradient, **settings),
            default=functools.partial(max_pool_gradient, **settings),
        ),
    )


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
