"""Draws without loops or scatters: as many of some candidates as are wanted, in a random order; and lengths of spans.

One sort of keys draws candidates: a key's high bits are random, its low bits the place that it stands for.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, UInt32


def shuffled(key: Key[Array, ""], candidate: Bool[Array, " length"]) -> Int[Array, " length"]:
    """The places of the candidates in random order, behind them the other places."""
    keys, places = _sort_keys(key, candidate)
    return (jnp.sort(keys, stable=False) & places).astype(jnp.int32)


def choose(key: Key[Array, ""], candidate: Bool[Array, " length"], count: Int[Array, ""]) -> Bool[Array, " length"]:
    """`count` of the candidates (all, where there are fewer), each set of them as likely as any other."""
    keys, _ = _sort_keys(key, candidate)
    last = jnp.sort(keys, stable=False)[jnp.clip(count - 1, 0, len(keys) - 1)]
    return candidate & (keys <= last) & (count > 0)


def poisson(key: Key[Array, ""], mean: float, count: int) -> Int[Array, " count"]:
    """Numbers with a Poisson distribution, by comparing 32 random bits with its cumulative probabilities.

    `jax.random.poisson` rejects and draws again, in a loop of unknown length, which no plan can count.
    """
    last = math.ceil(mean + 8 * math.sqrt(mean) + 16)
    shares = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(last)]
    reached = [int(total * 2**32) for total in itertools.accumulate(shares) if total < 1 - 2**-32]
    bits = jax.random.bits(key, (count, 1), jnp.uint32)
    return (bits >= jnp.asarray(reached, jnp.uint32)[None]).sum(axis=1, dtype=jnp.int32)


def _sort_keys(key: Key[Array, ""], candidate: Bool[Array, " length"]) -> tuple[UInt32[Array, " length"], int]:
    """A distinct key for each place, those of candidates lower; and the bits of it that are the place.

    31 - log₂(length) bits are random. Of two keys alike in those the lower place comes first, which of 1,024 places
    favours one place over another by 2⁻²².
    """
    length = len(candidate)
    places = (1 << max(length - 1, 1).bit_length()) - 1
    bits = jax.random.bits(key, (length,), jnp.uint32) >> 1
    keys = (bits & jnp.uint32(~places & 0x7FFFFFFF)) | jnp.arange(length, dtype=jnp.uint32)
    return jnp.where(candidate, keys, keys | jnp.uint32(1 << 31)), places
