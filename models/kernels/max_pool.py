"""The maximum over windows: XLA's, and for CPUs one of shifted images."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.kernels.gradient import with_gradient
from models.kernels.window import Image, Pair, Window, pad


def max_pool(x: Image, size: Pair, stride: Pair, padding: Pair) -> Image:
    """The largest value in each window; outside of the image there is none. Of equals the first gets the gradient."""
    return _max_pool(x, window=Window(size, stride, padding))


def _forward(x, *, window):
    cpu, default = (functools.partial(version, window=window) for version in (cpu_max_pool, xla_max_pool))
    return jax.lax.platform_dependent(x, cpu=cpu, default=default), (x,)


def _backward(residuals, gradient, *, window):
    versions = cpu_max_pool_gradient, xla_max_pool_gradient
    cpu, default = (functools.partial(version, window=window) for version in versions)
    return (jax.lax.platform_dependent(*residuals, gradient, cpu=cpu, default=default),)


def xla_max_pool(x: Image, window: Window) -> Image:
    """The largest value in each window."""
    return nn.max_pool(x, window.size, window.stride, tuple((length, length) for length in window.padding))


_max_pool = with_gradient(xla_max_pool, _forward, _backward)


def xla_max_pool_gradient(x: Image, gradient: Image, window: Window) -> Image:
    """The gradient with respect to the images: to the first of the largest values in each window."""
    (inputs,) = jax.vjp(functools.partial(xla_max_pool, window=window), x)[1](gradient)
    return inputs


def shifted(x: Image, window: Window) -> list[Image]:
    """What each place of the kernel sees of padded images, by rows."""
    (height, width), (down, right) = window.size, window.stride
    rows, columns = dataclasses.replace(window, padding=(0, 0)).places(x.shape)
    return [
        x[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right]
        for i in range(height)
        for j in range(width)
    ]


@functools.partial(jax.jit, static_argnames="window")
def cpu_max_pool(x: Image, window: Window) -> Image:
    """The largest value in each window."""
    return functools.reduce(jnp.maximum, shifted(pad(x, window.padding, -jnp.inf), window))


@functools.partial(jax.jit, static_argnames="window")
def cpu_max_pool_gradient(x: Image, gradient: Image, window: Window) -> Image:
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
