"""Log-probabilities that a language model gives to texts: of continuations, and of whole texts in windows."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from inference.generation import writes_anew
from inference.readers.text import few_shapes
from models.config import ModelError
from models.model import Model

AT_ONCE = 2_048
"""Tokens of one forward pass: their logits, vocabulary by vocabulary, are held together."""


def token_log_probabilities(
    model: Model,
    variables: dict[str, Any],
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    start: int | None = None,
) -> list[tuple[Float[np.ndarray, " tokens"], Bool[np.ndarray, " tokens"]]]:
    """Of each token of each continuation its log-probability, in nats, and whether it is the likeliest one.

    Pairs of like lengths are computed together, in few shapes. What stands beside a pair in a batch changes nothing.

    Args:
        pairs: (context, continuation), as ids. A decoder reads both as one text, an encoder-decoder the context with its
            encoder. A context has at least one token.
        start: the token that the texts of an encoder-decoder begin with.

    Raises:
        ModelError: a context is empty, or a pair does not fit the model.
    """
    room, rows = model.config.longest_input, []
    for context, continuation in pairs:
        if not len(context):
            raise ModelError("a context has no tokens: put the token in front that begins a text")
        if writes_anew(model):
            encoder, decoder, first = list(context), [start, *continuation[:-1]], 0
        else:
            encoder, decoder, first = [], [*context, *continuation][:-1], len(context) - 1
        if room is not None and max(len(encoder), len(decoder)) > room:
            raise ModelError(f"{max(len(encoder), len(decoder))} tokens do not fit a model with room for {room}")
        rows.append((encoder, decoder, first, continuation))
    results: list[Any] = [(np.zeros(0, np.float32), np.zeros(0, bool))] * len(rows)
    for places in batches([max(len(encoder), len(decoder)) for encoder, decoder, *_ in rows]):
        chosen = [rows[place] for place in places]
        labels = [[0] * first + list(continuation) for _, _, first, continuation in chosen]
        inputs = _padded([encoder for encoder, *_ in chosen], room) if writes_anew(model) else ()
        decoders = _padded([decoder for _, decoder, *_ in chosen], room)
        targets, _ = _padded(labels, room)
        log_probabilities, likeliest = jax.device_get(_scored(model, variables, (*inputs, *decoders), targets))
        for row, (place, (_, _, first, continuation)) in enumerate(zip(places, chosen, strict=True)):
            span = slice(first, first + len(continuation))
            results[place] = log_probabilities[row, span], likeliest[row, span]
    return results


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of rows that are computed together: of lengths that are padded alike, `AT_ONCE` tokens at most, or one row."""
    order = sorted(range(len(lengths)), key=lambda place: (few_shapes(1, max(1, lengths[place]))[1], place))
    while order:
        length = few_shapes(1, max(1, lengths[order[0]]))[1]
        alike = [place for place in order if few_shapes(1, max(1, lengths[place]))[1] == length]
        taken, order = alike[: max(1, AT_ONCE // length)], order[len(alike[: max(1, AT_ONCE // length)]) :]
        yield taken


def windows(
    ids: Sequence[int], prefix: int, longest: int, context: int = 1
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """A long text as pairs of a context and what follows it, each token of the text being in one continuation.

    The first window begins with the token `prefix`. Each other one has `longest` tokens, of which it repeats at least `context`;
    the last repeats as many as it has room for. The sum of their log-probabilities is that of the text.

    Args:
        longest: tokens that the model has room for.
    """
    ids, taken = [prefix, *ids], 1
    while taken < len(ids):
        new = longest if taken == 1 else longest - context + 1
        end = min(len(ids), taken + new)
        yield ids[max(0, end - longest - 1) : taken], ids[taken:end]
        taken = end


def _padded(rows: Sequence[Sequence[int]], room: int | None) -> tuple[Int[np.ndarray, "rows length"], np.ndarray]:
    """Rows padded on the right, with rows of padding behind them, and their mask."""
    count, length = few_shapes(len(rows), max(1, max(map(len, rows))))
    ids = np.zeros((count, min(length, room or length)), np.int32)
    mask = np.zeros_like(ids)
    for row, numbers in enumerate(rows):
        ids[row, : len(numbers)], mask[row, : len(numbers)] = numbers, 1
    mask[len(rows) :, 0] = 1
    return ids, mask


@functools.partial(jax.jit, static_argnums=0)
def _scored(
    model: Model, variables: Any, inputs: tuple[Array, ...], targets: Int[Array, "rows length"]
) -> tuple[Float[Array, "rows length"], Bool[Array, "rows length"]]:
    names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
    logits = model.apply(variables, **dict(zip(names, inputs, strict=False)))["logits"].astype(jnp.float32)
    of_targets = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return of_targets - jax.nn.logsumexp(logits, axis=-1), logits.argmax(axis=-1) == targets
