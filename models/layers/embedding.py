"""Tables of vectors, and the place of a text's last token."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from models.config import ModelConfig
from models.layers.linear import Initializer, truncated_normal


def embedding(
    config: ModelConfig,
    count: int,
    features: int,
    name: str | None,
    *,
    stddev: float,
    axis: str,
    table_init: Initializer | None = None,
) -> nn.Embed:
    """A table of `count` vectors, looked up as it is stored; the logical name of its first axis is `axis`."""
    return nn.Embed(
        count,
        features,
        dtype=jnp.dtype(config.param_dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        embedding_init=nn.with_logical_partitioning(table_init or truncated_normal(stddev), (axis, "embed")),
        name=name,
    )


def last_token(
    input_ids: Int[Array, "batch length"], padding: int | None, attention_mask: Int[Array, "batch length"] | None = None
) -> Int[Array, " batch"]:
    """The place of each row's last token that is not `padding`, and that the mask has not 0 at; the last place where neither
    says which are padding."""
    real = jnp.ones(input_ids.shape, bool) if padding is None else input_ids != padding
    if attention_mask is not None:
        real &= attention_mask > 0
    return jnp.where(real, jnp.arange(input_ids.shape[1])[None], 0).max(axis=1)
