"""Strings that end a text as soon as they stand in it, wherever the tokens' borders are.

All strings together are one automaton over bytes or characters (Aho and Corasick, "Efficient String Matching", 1975): its state
is the longest end of a text that begins one of them. A table holds, for each token and state, where the whole token leads and
whether a string was completed on the way, so that the compiled loop looks up one number a token. As in `transformers`, texts
are compared as bytes where the tokenizer has tokens for single bytes, a string may begin in the prompt, and it stays in the text.
"""

import functools
import json
import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

BYTE = re.compile("<0x([0-9a-fA-F]{2})>")
"""A token that is one byte, as tokenizers have it that fall back to them."""

BASE = "abcdef"
"""A text that a token is decoded behind: at the beginning of a text decoders drop spaces."""


@functools.lru_cache(maxsize=8)
def stop_table(tokenizer: Tokenizer, strings: tuple[str, ...], vocab: int) -> Int[np.ndarray, "vocab states"]:
    """2 · (the next state) + (whether a string was completed), for each token of a model and each state.

    A text begins in state 0. A string that no tokens can write ends no text.
    """
    surfaces, in_bytes = token_surfaces(tokenizer)
    patterns = [tuple(string.encode()) if in_bytes else tuple(string) for string in strings]
    symbols = {
        symbol: number for number, symbol in enumerate(dict.fromkeys(x for pattern in patterns for x in pattern))
    }
    steps, completes = automaton(patterns, symbols)
    other = len(symbols)
    width = max(map(len, surfaces.values()), default=0)
    encoded = np.full((vocab, width), other, np.int32)
    lengths = np.zeros(vocab, np.int32)
    for token, surface in surfaces.items():
        if token < vocab:
            encoded[token, : len(surface)] = [symbols.get(symbol, other) for symbol in surface]
            lengths[token] = len(surface)
    room = 1 << (len(steps) - 1).bit_length()  # few shapes are compiled
    states = np.tile(np.minimum(np.arange(room, dtype=np.int32), len(steps) - 1), (vocab, 1))
    completed = np.zeros(states.shape, bool)
    for place in range(width):
        rows = np.flatnonzero(lengths > place)
        symbol = encoded[rows, place][:, None]
        completed[rows] |= completes[states[rows], symbol]
        states[rows] = steps[states[rows], symbol]
    return 2 * states + completed


def automaton(
    patterns: Sequence[tuple[Hashable, ...]], symbols: dict[Hashable, int]
) -> tuple[Int[np.ndarray, "states symbols"], Bool[np.ndarray, "states symbols"]]:
    """The state that each symbol leads to from each state, and whether it completes a pattern. The last symbol stands for all
    that no pattern has."""
    prefixes = dict.fromkeys(pattern[:end] for pattern in patterns for end in range(len(pattern)))
    numbers = {prefix: number for number, prefix in enumerate(sorted(prefixes, key=len))}
    steps = np.zeros((len(numbers), len(symbols) + 1), np.int32)
    completes = np.zeros(steps.shape, bool)
    for prefix, state in numbers.items():
        for symbol, column in symbols.items():
            text = (*prefix, symbol)
            ends = [text[begin:] for begin in range(len(text) + 1)]
            steps[state, column] = next(numbers[end] for end in ends if end in numbers)
            completes[state, column] = any(end in patterns for end in ends)
    return steps, completes


def first_states(table: Int[np.ndarray, "vocab states"], prompts: Sequence[Sequence[int]]) -> Int[np.ndarray, " rows"]:
    """The states behind prompts; what they complete themselves ends nothing."""
    states = np.zeros(len(prompts), np.int32)
    for row, prompt in enumerate(prompts):
        for token in prompt:
            states[row] = table[token, states[row]] >> 1
    return states


def token_surfaces(tokenizer: Tokenizer) -> tuple[dict[int, Sequence[Hashable]], bool]:
    """What each token writes in the middle of a text, and whether that is bytes rather than characters."""
    types = set(decoder_types(json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else None))
    fallback, by_byte = "ByteFallback" in types, "ByteLevel" in types
    letters = byte_letters() if by_byte and not fallback else {}
    base = tokenizer.encode(BASE, add_special_tokens=False).tokens
    begun = decoded(tokenizer, base)
    surfaces = {}
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if letters and all(letter in letters for letter in token):
            surfaces[number] = bytes(letters[letter] for letter in token)
        elif fallback and (byte := BYTE.fullmatch(token)):
            surfaces[number] = bytes.fromhex(byte[1])
        else:
            text = decoded(tokenizer, [*base, token])
            text = text[len(begun) :] if text.startswith(begun) else text
            surfaces[number] = text.encode() if fallback or by_byte else text
    return surfaces, fallback or by_byte


def decoded(tokenizer: Tokenizer, tokens: list[str]) -> str:
    return tokenizer.decoder.decode(tokens) if tokenizer.decoder else " ".join(tokens)


def decoder_types(state: Any) -> list[str]:
    """The types of a decoder, and of those that it consists of."""
    if isinstance(state, list):
        return [name for one in state for name in decoder_types(one)]
    if not isinstance(state, dict):
        return []
    return [state["type"]] * isinstance(state.get("type"), str) + decoder_types(list(state.values()))


def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in byte-level tokens (Radford et al., 2019)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}
