"""Layer, root mean square, group and batch normalisation."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from models.config import ModelConfig
from models.kernels.batch_norm import batch_normalized
from models.kernels.norm import normalized
from models.kernels.precision import widened
from models.layers.linear import Initializer


class Norm(nn.Module):
    """Layer normalisation over the last axis (Ba et al., 2016, arXiv 1607.06450), with `scale` and `bias`; without `bias`
    root mean square normalisation (Zhang & Sennrich, 2019, arXiv 1910.07467). See `normalized`.
    """

    config: ModelConfig
    epsilon: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        features, dtype = x.shape[-1:], jnp.dtype(self.config.param_dtype)
        scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, ("norm",)), features, dtype)
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("norm",))
        bias = self.param("bias", bias_init, features, dtype) if self.use_bias else None
        return normalized(x, scale, bias, self.epsilon, self.config.compute_dtype)


def layer_norm(config: ModelConfig, epsilon: float, name: str | None) -> Norm:
    return Norm(config, epsilon, name=name)


def rms_norm(config: ModelConfig, epsilon: float, name: str | None) -> Norm:
    return Norm(config, epsilon, use_bias=False, name=name)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He, 2018, arXiv 1803.08494): the channels of each group of an image, over all its places, in
    float32 or wider; `scale` and `bias` for each channel.

    Attributes:
        groups: into how many the channels are cut.
    """

    config: ModelConfig
    groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        channels, dtype = x.shape[-1:], jnp.dtype(self.config.param_dtype)
        scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, ("norm",)), channels, dtype)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("norm",)), channels, dtype)
        grouped = rearrange(widened(x), "batch h w (groups c) -> batch h w groups c", groups=self.groups)
        centred = grouped - grouped.mean(axis=(1, 2, 4), keepdims=True)
        variance = (centred**2).mean(axis=(1, 2, 4), keepdims=True)
        normed = (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
        scale, bias = (jnp.expand_dims(widened(y), (0, 1, 2)) for y in (scale, bias))
        return (normed * scale + bias).astype(self.config.compute_dtype)


BatchAxes = tuple[str, ...] | None
"""Whose statistics a batch norm uses: `None` for its running ones; else those of the batch, over these mapped axes, too."""


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy, 2015, arXiv 1502.03167), in float32 or wider.

    Parameters `scale` and `bias`; in the collection `batch_stats` the running `mean` and `var` (of the unbiased estimate, as
    torch keeps it). With `batch_axes` the statistics are those of the whole batch, over the mapped axes too: the same
    however it is spread over devices.

    Attributes:
        momentum: the weight of a batch in the running statistics.
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
        factor = jax.lax.rsqrt(running_var.value + self.epsilon) * widened(scale)
        mean, factor, bias = (jnp.expand_dims(y, range(x.ndim - 1)) for y in (running_mean.value, factor, bias))
        return ((widened(x) - mean) * factor + bias).astype(self.config.compute_dtype)

    def _move(self, running: nn.Variable, current: Float[Array, " features"]) -> None:
        """Bring a running statistic nearer to what this batch has."""
        running.value = (1 - self.momentum) * running.value + self.momentum * jax.lax.stop_gradient(current)
