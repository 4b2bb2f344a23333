"""Inputs of encoder and decoder: allowed combinations, shifted targets, positions of packed texts."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelError
from models.layers.attention import Cache

Ids = Int[Array, "batch length"]
Mask = Int[Array, "batch length"] | Bool[Array, "batch length"]
Targets = Int[Array, "batch targets"]
TargetMask = Int[Array, "batch targets"] | Bool[Array, "batch targets"]
Hidden = Float[Array, "batch length hidden"]


def refuse(read: Mapping[str, Array | None], decoder_input_ids: Array | None, cache: Cache | None) -> None:
    """Raises `ModelError` if these inputs do not go together.

    Args:
        read: inputs of the encoder by name; the first is the one that it needs.
    """
    was_read, name = cache is not None and cache.memory_keys is not None, next(iter(read))
    if was_read and any(x is not None for x in read.values()):
        raise ModelError(f"past_key_values holds what the encoder read: leave out {' and '.join(read)}")
    if read[name] is None and not was_read:
        raise ModelError(f"{name} is missing, and past_key_values holds no encoder's output that would stand for it")
    if decoder_input_ids is None and read[name] is None:
        raise ModelError("decoder_input_ids is missing: with past_key_values it must say what comes next")


def refuse_packed(segment_ids: Array | None, decoder_segment_ids: Array | None, cache: Cache | None) -> None:
    """Raises `ModelError` if texts are packed on one side only, or together with a cache."""
    if (segment_ids is None) != (decoder_segment_ids is None):
        raise ModelError("segment_ids and decoder_segment_ids belong together: give both or neither")
    if segment_ids is not None and cache is not None:
        raise ModelError("segment_ids keep packed texts apart, which past_key_values cannot hold: give one of them")


def shift_tokens_right(ids: Ids, padding: int | None, start: int | Int[Array, " batch"]) -> Ids:
    """The decoder's input for the target `ids`: `start`, then all of `ids` but the last. Labels of -100 become `padding`, if
    there is such a token."""
    first = jnp.broadcast_to(jnp.asarray(start, ids.dtype), ids.shape[:1])[:, None]
    shifted = jnp.concatenate([first, ids[:, :-1]], axis=1)
    return shifted if padding is None else jnp.where(shifted < 0, padding, shifted)


def places_within(segment_ids: Ids) -> Ids:
    """The position of each token within its segment."""
    places = jnp.arange(segment_ids.shape[1])[None]
    begins = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return places - jax.lax.cummax(jnp.where(begins, places, 0), axis=1)
