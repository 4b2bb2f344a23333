"""Scaled dot-product attention."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from models.kernels.gradient import with_gradient
from models.kernels.platform import on_all_cores
from models.kernels.precision import wide
from models.layers.dropout import Keys, dropout


def attend(
    query: Float[Array, "batch heads length dim"],
    key: Float[Array, "batch key_value_heads keys dim"],
    value: Float[Array, "batch key_value_heads keys value_dim"],
    mask: Bool[Array, "#batch 1 #length keys"] | None = None,
    *,
    scale: float,
    position_bias: Float[Array, "#batch heads length keys"] | None = None,
    dropout_rate: float = 0.0,
    dropout_keys: Keys = None,
) -> tuple[Float[Array, "batch length features"], Float[Array, "batch heads length keys"]]:
    """softmax(query · key · scale + position_bias) · value (Vaswani et al., 2017, equation 1), the softmax in float32 or wider.

    Returns the heads side by side, and the attention probabilities before dropout. A query that `mask` lets look nowhere
    looks everywhere alike. Heads of keys and values, where there are fewer, are each shared by as many heads of queries.
    """
    if scale != 1:
        query *= jnp.asarray(scale, query.dtype)
    probabilities = jax.nn.softmax(_scores(query, key, mask, position_bias), axis=-1).astype(value.dtype)
    attended = _attend(query, key, value, mask, position_bias, dropout_keys, dropout_rate=dropout_rate)
    return attended, probabilities


def _products(
    query: Float[Array, "batch heads length dim"], key: Float[Array, "batch key_value_heads keys dim"]
) -> Float[Array, "batch heads length keys"]:
    """query · key in float32 or wider."""
    products = jnp.einsum("bhqd,bhkd->bhqk", _by_keys(query, key), key, preferred_element_type=wide(key.dtype))
    return products.astype(wide(key.dtype)).reshape(*query.shape[:3], key.shape[2])


def _by_keys(
    x: Float[Array, "batch heads length any"], key: Float[Array, "batch key_value_heads keys dim"]
) -> Float[Array, "batch key_value_heads rows any"]:
    """What belongs to queries, by the heads of the keys: heads that share keys are so many more queries to them."""
    return x.astype(key.dtype).reshape(*key.shape[:2], x.shape[1] // key.shape[1] * x.shape[2], x.shape[3])


def _scores(query, key, mask, position_bias) -> Float[Array, "batch heads length keys"]:
    scores = _products(query, key)
    if position_bias is not None:
        scores += position_bias
    return scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)


def _product(
    left: Float[Array, "batch heads rows any"], right: Float[Array, "batch heads any columns"]
) -> Float[Array, "batch heads rows columns"]:
    """left · right in float32 or wider."""
    product = jnp.einsum("bhij,bhjk->bhik", left, right, preferred_element_type=wide(right.dtype))
    return jax.lax.platform_dependent(product, cpu=on_all_cores, default=lambda product: product)


def _turned(x: Float[Array, "batch heads rows columns"]) -> Float[Array, "batch heads columns rows"]:
    """On CPUs an array of its own: a product that adds up over the rows of its left side is slow there."""

    def turn(x):
        return x.swapaxes(2, 3)

    return jax.lax.platform_dependent(x, cpu=lambda x: jax.lax.optimization_barrier(turn(x)), default=turn)


def _reference(query, key, value, mask, position_bias, dropout_keys, *, dropout_rate):
    probabilities = jax.nn.softmax(_scores(query, key, mask, position_bias), axis=-1).astype(value.dtype)
    weights = _by_keys(dropout(probabilities, dropout_rate, dropout_keys), value)
    attended = jnp.einsum("bhij,bhjk->bhik", weights, value).reshape(*query.shape[:3], value.shape[3])
    return rearrange(attended, "batch heads length dim -> batch length (heads dim)")


def _forward(query, key, value, mask, position_bias, dropout_keys, *, dropout_rate):
    """With w = exp(score - the largest of its row), Σ w · value / Σ w: the quotient of the result, not of the many weights."""
    scores = _scores(query, key, mask, position_bias)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    inverse = 1 / weights.sum(axis=-1, keepdims=True)
    weights = weights.astype(value.dtype)
    dropped = _by_keys(dropout(weights, dropout_rate, dropout_keys), value)
    sums = _product(dropped, value)
    attended = (sums.reshape(*query.shape[:3], value.shape[3]) * inverse).astype(value.dtype)
    attended = rearrange(attended, "batch heads length dim -> batch length (heads dim)")
    return attended, (query, key, value, mask, position_bias, dropout_keys, weights, inverse)


def _backward(residuals, gradient, *, dropout_rate):
    """p, the probabilities, being w / Σ w: of a score p · (gradient · value - Σ p · gradient · value), over the keys.

    That sum is gradient · attended, too, but then the gradients of a row, whose sum is 0, add up to more than rounding leaves.
    """
    query, key, value, mask, position_bias, dropout_keys, weights, inverse = residuals
    gradient = rearrange(gradient, "batch length (heads dim) -> batch heads length dim", heads=query.shape[1])
    gradient = (gradient * inverse).astype(value.dtype)
    products = dropout(_products(gradient, value), dropout_rate, dropout_keys)
    scores = weights * (products - (weights * products).sum(axis=-1, keepdims=True) * inverse)
    scores = scores if mask is None else jnp.where(mask, scores, 0.0)
    biases = None
    if position_bias is not None:
        same = tuple(axis for axis, size in enumerate(position_bias.shape) if size == 1)
        biases = scores.sum(axis=same, keepdims=True).astype(position_bias.dtype)
    dropped, scores = _by_keys(dropout(weights, dropout_rate, dropout_keys), key), _by_keys(scores, key)
    queries = _product(scores, key).reshape(query.shape)
    keys = _product(_turned(_by_keys(query, key)), scores).swapaxes(2, 3)
    values = _product(_turned(_by_keys(gradient, key)), dropped).swapaxes(2, 3)
    return *(x.astype(key.dtype) for x in (queries, keys, values)), None, biases, None


_attend = with_gradient(_reference, _forward, _backward, inputs=lambda residuals: residuals[:6])
