"""Frames of audio: how many a model makes of samples, and spans of them that are masked."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from objectives.draws import choose
from objectives.objective import ObjectiveError


def frames_of(samples: Any, conv_kernel: Sequence[int], conv_stride: Sequence[int]) -> Any:
    """How many frames convolutions of these widths and steps make of so many samples, a number or an array of them."""
    for kernel, stride in zip(conv_kernel, conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def most_spans(places: int, rate: float, length: int, least: int) -> int:
    """How many spans `spans` masks at most of so many places."""
    return min(max(int(rate * places / length + 1), least), places // length)


def spans(
    key: Key[Array, ""], places: int, used: int | Int[Array, ""], *, rate: float, length: int, least: int
) -> Bool[Array, " places"]:
    """Places that are masked: spans of `length`, which may overlap, among the first `used` places.

    Their number is `rate · used / length`, rounded up or down by chance, and at least `least` where there is room; they begin at
    places drawn without replacement (the released code of Baevski et al., 2020, arXiv 2006.11477).
    """
    rounding, starting = jax.random.split(key)
    count = jnp.floor(rate * used / length + jax.random.uniform(rounding)).astype(jnp.int32)
    room = jnp.maximum(used - length + 1, 0)
    count = jnp.minimum(jnp.minimum(jnp.maximum(count, least), places // length), room)
    begins = choose(starting, jnp.arange(places) < room, count)
    before = jnp.cumsum(begins)
    return before - jnp.pad(before, (length, 0))[:places] > 0


def check_spans(rate: float, length: int, least: int, name: str) -> None:
    """Raise unless such spans can be drawn."""
    if not 0 <= rate <= 1 or length < 1 or least < 0:
        raise ObjectiveError(
            f"{name}_prob={rate}, {name}_length={length}, {name}_min_masks={least}: expected a rate from 0 to 1, a length of"
            " 1 or more and a number of 0 or more"
        )
