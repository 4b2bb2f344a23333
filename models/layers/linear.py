"""Linear layers. Parameters carry logical axis names, which the training mesh maps to chips."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from models.config import ModelConfig
from models.kernels.linear import add_bias, matmul
from models.layers.vocabulary import VocabularyScores

Initializer = Callable[..., Array]


def truncated_normal(stddev: float) -> Initializer:
    """N(0, stddev²) cut at ±2 stddev, as the TensorFlow models of 2018 were initialised."""
    return nn.initializers.truncated_normal(stddev)


torch_uniform: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(-1/√fan_in, 1/√fan_in): how the kernels of torch's linear layers and convolutions begin."""


def by_example(x: Float[Array, "batch ..."], features: str | None = None) -> Float[Array, "batch ..."]:
    """`x`, on a mesh laid out by examples and, where its last axis has a logical name, by that.

    Parameters that chips share must come to the activations: without this, XLA may send these to the parameters.
    """
    return nn.with_logical_constraint(x, ("batch", *(None,) * (x.ndim - 2), features))


PROJECTION = "projection"
"""What the results of `dense` are called in rematerialisation policies, which cannot see into `matmul`."""


class Dense(nn.Module):
    """A linear layer: `x @ kernel + bias` in the compute dtype, the gradients in the parameters'. See `dense`."""

    config: ModelConfig
    features: tuple[int, ...]
    axes: tuple[str | None, ...]
    use_bias: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "... in"], unprojected: bool = False) -> Float[Array, "..."] | VocabularyScores:
        """`unprojected` gives what the result is computed from, the outputs being those of a vocabulary."""
        dtype = jnp.dtype(self.config.param_dtype)
        kernel_init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        kernel = self.param("kernel", kernel_init, (x.shape[-1], *self.features), dtype)
        x = x.astype(self.config.compute_dtype)
        if unprojected and not self.use_bias:
            return VocabularyScores(x, kernel)
        y = checkpoint_name(matmul(x, kernel), PROJECTION)
        y = by_example(y, None if (self.axes[-1] or "").startswith("embed") else self.axes[-1])
        if not self.use_bias:
            return y
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
        return add_bias(y, self.param("bias", bias_init, self.features, dtype))


def dense(
    config: ModelConfig,
    features: int | tuple[int, ...],
    name: str | None,
    axes: tuple[str | None, ...],
    *,
    bias: bool = True,
    stddev: float = 0.02,
    kernel_init: Initializer | None = None,
) -> Dense:
    """A linear layer whose kernel `(in, *features)` has the logical `axes`, and N(0, stddev²) cut at ±2 stddev at first."""
    features = (features,) if isinstance(features, int) else features
    return Dense(config, features, axes, bias, kernel_init or truncated_normal(stddev), name=name)
