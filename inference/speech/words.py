"""Word timestamps from the decoder's cross-attention.

The attention of the alignment heads is smoothed, and dynamic time warping (Sakoe & Chiba, "Dynamic programming algorithm
optimization for spoken word recognition", 1978) finds the monotonic path through it. Widths and rules of punctuation are those
of the implementation by Whisper's authors.
"""

import dataclasses
import functools
import itertools
import string
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from inference.generation.layers import joined
from inference.speech.listener import Listener
from models.model import Model

PLACE = 0.02
"""Seconds per place of the encoder's output."""
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages written without spaces."""
BEFORE, BEHIND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that is joined to the word after it, and to the word before it."""
SENTENCE_ENDS = ".。!！?？"
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
LONGEST_MEDIAN = 0.7
"""Upper bound of the median duration of words, in seconds."""


@dataclasses.dataclass(frozen=True)
class Word:
    """A word as it stands in the text, with its times in seconds and the mean probability of its tokens."""

    text: str
    tokens: tuple[int, ...]
    start: float
    end: float
    probability: float

    def later(self, seconds: float) -> "Word":
        return dataclasses.replace(self, start=self.start + seconds, end=self.end + seconds)


def timed(
    listener: Listener,
    features: Float32[np.ndarray, "1 frames mels"],
    size: int,
    texts: Sequence[Sequence[int]],
    language: str | None,
) -> list[list[Word]]:
    """The words of the segments of a window, with times relative to its beginning.

    Args:
        size: frames of the recording in the window.
        texts: tokens of each segment, timestamps included.
    """
    special = listener.tokens
    texts = [[token for token in tokens if token < special.end] for tokens in texts]
    text = list(itertools.chain.from_iterable(texts))
    words = split(listener, text, language)
    if not words:
        return [[] for _ in texts]
    begin = special.prompt(language, "transcribe", timestamps=False)
    matrix, logits = attention(listener, features, [*begin, *text, special.end], len(begin), size)
    rows, places = warped(-matrix)
    firsts = places[np.diff(rows, prepend=-1) > 0] * PLACE  # where each token begins
    ends = np.cumsum([len(tokens) for _, tokens in words])
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = scores[np.arange(len(text)), text] / scores.sum(axis=1)
    found = []
    for (word, tokens), end in zip(words, ends, strict=True):
        start = end - len(tokens)
        times = float(firsts[start]), float(firsts[end])
        found.append(Word(word, tuple(tokens), *times, float(scores[start:end].mean())))
    return by_segment(joined_to_words(shortened(found)), texts)


def attention(
    listener: Listener, features: Float32[np.ndarray, "1 frames mels"], tokens: Sequence[int], begin: int, size: int
) -> tuple[Float[np.ndarray, "text places"], Float[np.ndarray, "text vocab"]]:
    """The alignment heads' attention from each token of a text, and from its end, to the sound, and the scores of text tokens.

    Args:
        begin: the prompt, which ends with the token for no timestamps.
    """
    config, length = listener.model.config, len(tokens)
    width = min(-(-length // 64) * 64, config.longest_input)  # few shapes are compiled
    ids = np.full((1, max(width, length)), listener.tokens.end, np.int32)
    ids[0, :length] = tokens
    seen, logits = jax.device_get(attend_compiled(listener.model, listener.variables, features, ids))
    heads = listener.alignment_heads or [
        (layer, head)
        for layer in range(config.decoder_layers // 2, config.decoder_layers)
        for head in range(config.decoder_attention_heads)
    ]
    weights = np.stack([seen[layer, 0, head] for layer, head in heads])[:, :length, : max(1, size // 2)]
    weights = weights.astype(np.float64) / weights.sum(axis=-1, keepdims=True)
    weights = (weights - weights.mean(axis=1, keepdims=True)) / weights.std(axis=1, keepdims=True)
    matrix = smoothed(weights, config.median_filter_width).mean(axis=0)
    return matrix[begin - 1 : -1], logits[0, begin - 1 : length - 2, : listener.tokens.end].astype(np.float64)


@functools.partial(jax.jit, static_argnums=0)
def attend_compiled(
    model: Model, variables: dict[str, Any], features: Float[Array, "1 frames mels"], ids: Int[Array, "1 length"]
) -> tuple[Float[Array, "layers 1 heads length places"], Float[Array, "1 length vocab"]]:
    outputs = model.apply(joined(variables), features, ids, output_attentions=True)
    return outputs.cross_attentions, outputs.logits


def smoothed(weights: Float[np.ndarray, "heads text places"], width: int) -> Float[np.ndarray, "heads text places"]:
    """A running median, reflected at the ends."""
    half = width // 2
    if weights.shape[-1] <= half:
        return weights
    padded = np.pad(weights, ((0, 0), (0, 0), (half, half)), mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1)


def warped(costs: Float[np.ndarray, "text places"]) -> tuple[Int[np.ndarray, " path"], Int[np.ndarray, " path"]]:
    """Dynamic time warping: the cheapest path from the first entry to the last, in steps of one row, one column or both.

    Sums run along antidiagonals, whose entries are independent. Ties go to the step of one column, as in the authors'
    implementation.
    """
    rows, places = costs.shape
    total = np.full((rows + 1, places + 1), np.inf)
    total[0, 0] = 0
    step = np.full(total.shape, 2, np.int8)
    for diagonal in range(2, rows + places + 1):
        i = np.arange(max(1, diagonal - places), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, row, place = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        taken = np.where((both < row) & (both < place), 0, np.where((row < both) & (row < place), 1, 2))
        step[i, j] = taken
        total[i, j] = costs[i - 1, j - 1] + np.choose(taken, [both, row, place])
    step[0], step[:, 0] = 2, 1
    i, j, path = rows, places, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        taken = step[i, j]
        i, j = i - (taken != 2), j - (taken != 1)
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]


def split(listener: Listener, tokens: Sequence[int], language: str | None) -> list[tuple[str, list[int]]]:
    """Splits tokens into words: at spaces, or into characters for a language without spaces."""
    pieces: list[tuple[str, list[int]]] = []
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        piece = listener.tokenizer.decode(waiting)
        if UNFINISHED not in piece:
            pieces.append((piece, waiting))
            waiting = []
    if waiting:
        pieces.append((listener.tokenizer.decode(waiting), waiting))
    if language in UNSPACED:
        return pieces
    words: list[tuple[str, list[int]]] = []
    for piece, its in pieces:
        if not words or piece.startswith(" ") or piece.strip() in string.punctuation:
            words.append((piece, list(its)))
        else:
            words[-1] = words[-1][0] + piece, words[-1][1] + its
    return words


def shortened(words: Sequence[Word]) -> list[Word]:
    """Shortens words at the ends of sentences to twice the median duration, which would cover the pause, too."""
    lengths = [word.end - word.start for word in words if word.end > word.start]
    longest = 2 * min(LONGEST_MEDIAN, float(np.median(lengths))) if lengths else 0.0
    found = list(words)
    for number, (before, word) in enumerate(itertools.pairwise(words), 1):
        if lengths and word.end - word.start > longest:
            if word.text in SENTENCE_ENDS:
                found[number] = dataclasses.replace(word, end=word.start + longest)
            elif before.text in SENTENCE_ENDS:
                found[number] = dataclasses.replace(word, start=word.end - longest)
    return found


def joined_to_words(words: Sequence[Word]) -> list[Word]:
    """Joins punctuation to words; times stay those of the word."""
    found: list[Word] = []
    for word in reversed(words):
        if found and word.text.startswith(" ") and word.text.strip() in BEFORE:
            behind = found[-1]
            found[-1] = dataclasses.replace(behind, text=word.text + behind.text, tokens=word.tokens + behind.tokens)
        else:
            found.append(word)
    words, found = found[::-1], []
    for word in words:
        if found and not found[-1].text.endswith(" ") and word.text in BEHIND:
            before = found[-1]
            found[-1] = dataclasses.replace(before, text=before.text + word.text, tokens=before.tokens + word.tokens)
        else:
            found.append(word)
    return found


def by_segment(words: Sequence[Word], texts: Sequence[Sequence[int]]) -> list[list[Word]]:
    """The words of each segment, by the numbers of its tokens."""
    waiting, found = list(words), []
    for tokens in texts:
        own, count = [], 0
        while waiting and count < len(tokens):
            own.append(waiting.pop(0))
            count += len(own[-1].tokens)
        found.append(own)
    return found
