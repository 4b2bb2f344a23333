"""Convolution and the maximum over windows, by platform."""

import functools

import jax

from models.kernels import convolution_cpu
from models.kernels.convolution_window import (
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
from models.kernels.linear import matmul


def convolve(
    x: Image,
    kernel: Kernel,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Image:
    """The cross-correlation of `x`, padded with zeros on both sides, with `kernel`, in the dtype of `x`.

    The kernel's gradient is in its own dtype, for the reason that `models.kernels.linear.matmul` gives. On accelerators this is
    XLA's convolution; on CPUs, where that is slow, what `models.kernels.convolution_cpu` makes of it. The numbers are the same.
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
