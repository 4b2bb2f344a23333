"""Texts longer than a model, cut into windows that overlap. Devlin et al., "BERT", 2018, arXiv 1810.04805, the released
`run_squad.py`, there with the step from window to window, here with what two windows have in common, as in `transformers`."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Encoding, Tokenizer

from data.errors import DataError
from data.text.framing import Framing

Text = str | tuple[str, str]


def cut(
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    longest: int,
    overlap: int = 0,
    strategy: Literal["longest_first", "only_first", "only_second"] = "longest_first",
) -> list[list[Encoding]]:
    """Each text, or pair of texts, as windows of at most `longest` tokens, those of the frame included.

    Args:
        overlap: tokens that a window has in common with the next.
        strategy: which of a pair is cut; `longest_first` takes tokens off the longer of the two, and its first window is all
            that is of use.

    Raises:
        DataError: what is not cut, or the frame alone, leaves no room.
    """
    framing = Framing.of(tokenizer)
    rooms = [room(tokenizer, text, longest, strategy, framing) for text in texts]
    overlaps = [overlap if overlap < left else left // 2 for left in rooms]
    windows: dict[int, list[Encoding]] = {}
    for shared in set(overlaps):
        numbers = [number for number, each in enumerate(overlaps) if each == shared]
        tokenizer.enable_truncation(longest, stride=shared, strategy=strategy)
        try:
            encodings = tokenizer.encode_batch([texts[number] for number in numbers])
        finally:
            tokenizer.no_truncation()
        windows |= {n: [first, *first.overflowing] for n, first in zip(numbers, encodings, strict=True)}
    return [windows[number] for number in range(len(texts))]


def room(tokenizer: Tokenizer, text: Text, longest: int, strategy: str, framing: Framing) -> int:
    """Tokens that a window has for what is cut."""
    if isinstance(text, str):
        left, fixed = longest - framing.count, ""
    else:
        fixed = {"only_first": text[1], "only_second": text[0]}.get(strategy, "")
        left = longest - framing.pair_count - len(tokenizer.encode(fixed, add_special_tokens=False).ids)
    if left < 1:
        beside = f" beside {fixed!r:.60}" if fixed else ""
        raise DataError(
            f"{longest} tokens leave no room for a text{beside}: shorten that, or take a model with more room"
        )
    return left


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a context as a model reads it, behind its question.

    Attributes:
        inside: whether each token is one of the context.
        spans: first character in the context of each token, and the one behind its last; of its word where it has one.
        fullest: whether no other window gives the token more context on its poorer side; the first of several.
    """

    inside: Bool[np.ndarray, " tokens"]
    spans: Int[np.ndarray, "tokens 2"]
    fullest: Bool[np.ndarray, " tokens"]


def windows_of(encodings: Sequence[Encoding], align_to_words: bool = True) -> list[Window]:
    """The windows of one context, as the second text of pairs.

    Args:
        align_to_words: whether a token stands for its whole word.
    """
    insides = [np.array([part == 1 for part in encoding.sequence_ids], bool) for encoding in encodings]
    offsets = [characters(encoding, align_to_words=False) for encoding in encodings]
    best: dict[tuple[int, ...], tuple[float, int]] = {}  # token → its context, and its window, negated
    for number, (inside, pairs) in enumerate(zip(insides, offsets, strict=True)):
        for pair, context in zip(map(tuple, pairs[inside]), contexts(inside.sum()), strict=True):
            best[pair] = max(best.get(pair, (-1.0, 0)), (context, -number))
    windows = []
    for number, (inside, pairs) in enumerate(zip(insides, offsets, strict=True)):
        fullest = [one and best[tuple(pair)][1] == -number for one, pair in zip(inside, pairs, strict=True)]
        windows.append(Window(inside, characters(encodings[number], align_to_words), np.array(fullest, bool)))
    return windows


def contexts(count: int) -> np.ndarray:
    """How much context each of so many tokens has in its window: the lesser of what is before and behind it, and a hundredth
    of the window's length."""
    places = np.arange(count)
    return np.minimum(places, count - 1 - places) + 0.01 * count


def characters(encoding: Encoding, align_to_words: bool) -> Int[np.ndarray, "tokens 2"]:
    """The characters that each token covers, or its word."""
    offsets, words, parts = np.array(encoding.offsets, int).reshape(-1, 2), encoding.word_ids, encoding.sequence_ids
    if align_to_words:
        for place, (word, part) in enumerate(zip(words, parts, strict=True)):
            whole = None if word is None or part != 1 else encoding.word_to_chars(word, sequence_index=1)
            if whole is not None:
                offsets[place] = whole
    return offsets
