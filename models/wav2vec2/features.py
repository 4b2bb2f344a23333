"""From samples to frames: the convolutions over raw audio, and the projection to the encoder's width."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from models.config import ModelError
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.convolution import Conv
from models.layers.dropout import Keys, dropout
from models.layers.linear import dense, torch_uniform
from models.layers.norm import layer_norm
from models.wav2vec2.config import Wav2Vec2Config

Samples = Float[Array, "batch samples"]
Frames = Float[Array, "batch frames features"]
Hidden = Float[Array, "batch frames hidden"]
FrameMask = Bool[Array, "batch frames"]

NORM_EPSILON = 1e-5
"""Epsilon of the norms after convolutions, whatever the config says."""

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class NormOverTime(nn.Module):
    """Each channel normalised over time, its padding included, in float32 or wider (group norm of one channel a group; Wu & He,
    2018, arXiv 1803.08494)."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, x: Float[Array, "batch 1 frames channels"]) -> Float[Array, "batch 1 frames channels"]:
        shape, dtype = x.shape[-1:], jnp.dtype(self.config.param_dtype)
        scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, ("norm",)), shape, dtype)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("norm",)), shape, dtype)
        wide = widened(x)
        centred = wide - wide.mean(axis=2, keepdims=True)
        normed = centred * jax.lax.rsqrt((centred**2).mean(axis=2, keepdims=True) + NORM_EPSILON)
        scale, bias = (jnp.expand_dims(y, range(x.ndim - 1)) for y in (scale, bias))
        return (normed * scale + bias).astype(self.config.compute_dtype)


class FeatureEncoder(nn.Module):
    """Convolutions over the samples, each with a norm (over time: the first one alone) and an activation."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, input_values: Samples) -> Frames:
        config = self.config
        x = input_values.astype(config.compute_dtype)[:, None, :, None]
        for number, (features, kernel, stride) in enumerate(
            zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
        ):
            x = Conv(
                config,
                features,
                (1, kernel),
                stride=(1, stride),
                use_bias=config.conv_bias,
                kernel_init=kaiming_normal,
                name=f"conv_{number}",
            )(x)
            if config.feat_extract_norm == "layer":
                x = layer_norm(config, NORM_EPSILON, f"norm_{number}")(x)
            elif number == 0:
                x = NormOverTime(config, name="norm_0")(x)
            x = activation(config.feat_extract_activation)(x)
        return x[:, 0]


class FeatureProjection(nn.Module):
    """LN(z), which the quantiser reads, and W LN(z) + b with dropout, which the encoder reads."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, features: Frames, dropout_keys: Keys) -> tuple[Frames, Hidden]:
        config = self.config
        normed = layer_norm(config, config.layer_norm_eps, "layer_norm")(features)
        projection = dense(config, config.hidden_size, "projection", ("embed", "embed_out"), kernel_init=torch_uniform)
        return normed, dropout(projection(normed), config.feat_proj_dropout, dropout_keys)


def check_samples(config: Wav2Vec2Config, input_values: Samples) -> None:
    """Raises `ModelError` if there are too few samples for a frame."""
    if input_values.ndim != 2 or config.frames(input_values.shape[1]) < 1:
        raise ModelError(
            f"input_values of shape {input_values.shape}: expected (batch, samples), and at least {config.samples(1)} samples"
            " to make a frame of"
        )


def frame_mask(config: Wav2Vec2Config, attention_mask: Array, frames: int) -> FrameMask:
    """The frames of the samples in `attention_mask`, which are the first of each row."""
    return jnp.arange(frames)[None] < config.frames(attention_mask.sum(axis=-1))[:, None]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def scaled_gradient(x: Array, factor: float) -> Array:
    """`x` with its gradient multiplied by `factor`."""
    return x


@scaled_gradient.defjvp
def _scaled(factor, primals, tangents):
    return primals[0], (tangents[0] * factor).astype(primals[0].dtype)
