"""Examples as `data.text.windows` gives them, made of random tokens."""

from types import SimpleNamespace

import numpy as np

from data.text.framing import Framing

CLS, SEP, PAD = 2, 3, 0


def window(rng: np.random.Generator, size: int, vocabulary: int, mean_sentence: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and sentence numbers of a window of at most `size` tokens, often shorter."""
    length = int(rng.integers(1, size + 1)) if rng.random() < 0.5 else size
    tokens, sentences = np.full(size, PAD, np.int32), np.full(size, -1, np.int32)
    tokens[:length] = rng.integers(5, vocabulary, length)
    sentences[:length] = np.cumsum(np.append(0, rng.random(length - 1) < 1 / mean_sentence))
    return tokens, sentences


def example(index: int, length: int, vocabulary: int = 200, mean_sentence: float = 9.0) -> dict[str, np.ndarray]:
    """The example with this place in the run."""
    rng = np.random.default_rng([index, length])
    tokens, sentence_ids = window(rng, 2 * length, vocabulary, mean_sentence)
    other_tokens, other_sentence_ids = window(rng, 2 * length, vocabulary, mean_sentence)
    used = min(int((sentence_ids >= 0).sum()), length - 2)
    input_ids = np.full(length, PAD, np.int32)
    input_ids[: used + 2] = [CLS, *tokens[:used], SEP]
    place = np.arange(length)
    return {
        "index": np.uint32(index),
        "input_ids": input_ids,
        "attention_mask": (place < used + 2).astype(np.int32),
        "token_type_ids": np.zeros(length, np.int32),
        "special_tokens_mask": ((place == 0) | (place > used)).astype(np.int32),
        "tokens": tokens,
        "sentence_ids": sentence_ids,
        "other_tokens": other_tokens,
        "other_sentence_ids": other_sentence_ids,
    }


def batch(indices, length: int, **options) -> dict[str, np.ndarray]:
    """Several examples, stacked."""
    rows = [example(int(i), length, **options) for i in indices]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


TEXT = 7, 200
"""Ids of the ordinary tokens of `text_windows`."""


def text_vocabulary() -> SimpleNamespace:
    """A vocabulary of 300 tokens, the first seven special, the last hundred sentinels, every third continuing a word."""
    return SimpleNamespace(
        size=300,
        pad=0,
        unk=1,
        cls=2,
        sep=3,
        mask=4,
        bos=5,
        eos=6,
        sentinels=tuple(range(299, 199, -1)),
        special_ids=tuple(range(7)),
        starts_word=np.arange(300) % 3 > 0,
        framing=Framing((5,), (6,), (2,), (3,), (3,)),
    )


def text_windows(sizes, window: int, mean: float = 9.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Windows of which the first so many places hold text, cut into documents or sentences of `mean` tokens.

    No token occurs twice in a text of up to 193, so that it is known wherever it turns up.
    """
    rng = np.random.default_rng([seed, window])
    tokens = np.zeros((len(sizes), window), np.int32)
    parts = np.full((len(sizes), window), -1, np.int32)
    for row, size in enumerate(sizes):
        ids = np.concatenate([rng.permutation(np.arange(*TEXT)) for _ in range(size // 193 + 1)])
        tokens[row, :size] = ids[:size]
        begins = rng.random(size) < 1 / mean
        begins[:1] = False
        parts[row, :size] = np.cumsum(begins)
    return {
        "index": np.arange(len(sizes), dtype=np.uint32),
        "tokens": tokens,
        "document_ids": parts,
        "sentence_ids": parts,
    }
