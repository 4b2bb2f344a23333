"""Dropout of elements and of whole examples, the same however a batch is split."""

import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

Keys = Key[Array, " batch"] | None


def fold_in(keys: Keys, data: int | Int[Array, ""]) -> Keys:
    """`jax.random.fold_in` for a batch of keys, one per example; `None` (no dropout) stays `None`."""
    return None if keys is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit integers in which each input bit flips each output bit with probability ≈ 1/2.

    Two rounds of xor-shift and multiplication (Wellons, "Prospecting for Hash Functions", 2018, constants of the
    triple (16, 15, 15) found there).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    return x ^ (x >> 15)


def random_bits(place: UInt32[Array, "..."], words: Iterable[UInt32[Array, "..."]]) -> UInt32[Array, "..."]:
    """Random 32-bit words, functions of a place and of the words of a key."""
    for word in words:
        place = _mix(place + word)
    return place


def threshold(rate: float) -> int:
    """Random words below it are of what is kept."""
    return round((1.0 - rate) * 2**32)


def key_words(keys: Key[Array, " batch"]) -> UInt32[Array, "batch 2"]:
    """The two words of each key that dropout goes by."""
    return jax.random.key_data(keys)[:, :2]


def dropout_bits(keys: Key[Array, " batch"], shape: Sequence[int]) -> UInt32[Array, "batch ..."]:
    """Random 32-bit words of shape `(batch, *shape)`, where row b is a function of `keys[b]` and the place alone.

    So they do not change when the batch is split over devices, processes or micro-batches. They are computed where they
    are used, element by element: no chip ever holds those of another, and XLA fuses them into the code around them.
    """
    words = key_words(keys).reshape(-1, 2, *(1,) * len(shape))
    place = jnp.zeros((1, *shape), jnp.uint32)
    for axis, stride in enumerate(math.prod(shape[axis + 1 :]) for axis in range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, (1, *shape), axis + 1) * jnp.uint32(stride % 2**32)
    return random_bits(place, (words[:, n] for n in range(2)))


def dropout(x: Float[Array, "batch ..."], rate: float, keys: Keys) -> Float[Array, "batch ..."]:
    """Zero each element with probability `rate` and scale the others by 1 / (1 - rate) (Srivastava et al., 2014).

    `keys` holds one key per example, made new for each place that drops (`fold_in`); `None` turns dropout off.
    """
    if keys is None or rate == 0.0:
        return x
    keep = dropout_bits(keys, x.shape[1:]) < jnp.uint32(threshold(rate))
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


def drop_path(x: Float[Array, "batch ..."], rate: float | Float[Array, ""], keys: Keys) -> Float[Array, "batch ..."]:
    """Zero whole examples with probability `rate` and scale the others by 1 / (1 - rate): of a residual branch, so that its
    layer is skipped ("stochastic depth", Huang et al., 2016, arXiv 1603.09382). `rate` may be an array: of a layer in a
    `stack`.
    """
    if keys is None or (isinstance(rate, float) and rate == 0.0):
        return x
    drawn = (dropout_bits(keys, ()) >> 8).astype(jnp.float32) * 2.0**-24
    keep = jnp.expand_dims(drawn < 1.0 - rate, range(1, x.ndim))
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))
