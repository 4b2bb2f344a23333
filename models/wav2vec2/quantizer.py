"""A product quantiser: Gumbel-softmax chooses a vector of each of several codebooks for a frame.

Baevski et al., 2020, arXiv 2006.11477, section 2; Jang, Gu, Poole: "Categorical Reparameterization with Gumbel-Softmax", 2016,
arXiv 1611.01144.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from models.kernels.precision import widened
from models.layers.linear import dense
from models.wav2vec2.config import Wav2Vec2Config

Noise = Float[Array, "batch places groups codes"]


class Quantized(NamedTuple):
    """Quantised frames.

    Attributes:
        vectors: chosen vectors, all groups concatenated.
        indices: index of the chosen vector of each group.
        logits: logits of all vectors, float32 or wider, without noise and temperature.
    """

    vectors: Float[Array, "batch places features"]
    indices: Int[Array, "batch places groups"]
    logits: Float[Array, "batch places groups codes"]


class GumbelQuantizer(nn.Module):
    """Chooses vector argmax_v (l_v + n_v) / τ of each group; with noise n its gradient is that of softmax((l + n) / τ).

    Without noise, as in evaluation, no gradient reaches the logits l.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch places channels"],
        noise: Noise | None = None,
        temperature: Float[Array, " batch"] | None = None,
    ) -> Quantized:
        config = self.config
        groups, codes = config.num_codevector_groups, config.num_codevectors_per_group
        normal = nn.initializers.normal(1.0)
        logits = dense(config, groups * codes, "weight_proj", ("embed", "embed_out"), kernel_init=normal)(features)
        logits = rearrange(widened(logits), "b places (groups codes) -> b places groups codes", groups=groups)
        uniform = nn.with_logical_partitioning(nn.initializers.uniform(1.0), (None, None, "embed_out"))
        shape = (groups, codes, config.codevector_dim // groups)
        codevectors = self.param("codevectors", uniform, shape, jnp.dtype(config.param_dtype))
        scores = logits if noise is None else logits + noise
        indices = scores.argmax(axis=-1)
        chosen = jax.nn.one_hot(indices, codes, dtype=scores.dtype)
        if noise is not None:
            soft = jax.nn.softmax(scores / temperature[:, None, None, None], axis=-1)
            chosen += soft - jax.lax.stop_gradient(soft)
        vectors = jnp.einsum("bpgv,gvd->bpgd", chosen, codevectors.astype(chosen.dtype))
        vectors = rearrange(vectors, "b places groups features -> b places (groups features)")
        return Quantized(vectors.astype(config.compute_dtype), indices, logits)
