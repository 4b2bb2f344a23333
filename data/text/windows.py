"""Windows of text: a stateless map from an example's place in the run to the example.

Devlin et al., "BERT", 2018, arXiv 1810.04805, with the walk of the released `create_pretraining_data.py` turned into a
function of (seed, i) alone: sentences are packed until the sequence is full. There, sentences that an example left
unused went back to the next one, so that the cuts moved from one pass over the text to the next; here, from the second
epoch on, each chunk begins at a sentence drawn among its own, which is a stateless stand-in for that.
"""

import copy
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64

from data.errors import DataError
from data.files import locked, whole_file
from data.loader import Batch
from data.order import shuffled_places
from data.text.corpus import Corpus

WORDS = 4
"""64-bit random words that an example has: a block of the Philox generator."""

SHORTEST = 8
"""Least sequence length."""


def blank_window(sequence_length: int, text_length: int | None = None) -> Batch:
    """An example with the names, shapes and dtypes of those of `Windows`, all zeros."""
    if text_length is not None:
        texts = {name: np.zeros(text_length, np.int32) for name in ("tokens", "sentence_ids")}
        return {"index": np.zeros((), np.uint32), **texts}
    inputs = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")
    texts = ("tokens", "sentence_ids", "other_tokens", "other_sentence_ids")
    return {
        "index": np.zeros((), np.uint32),
        **{name: np.zeros(sequence_length, np.int32) for name in inputs},
        **{name: np.zeros(2 * sequence_length, np.int32) for name in texts},
    }


class Windows:
    """Examples cut from some documents of a corpus.

    A chunk is a run of whole sentences of one document with at most `sequence_length` tokens less those that stand around
    two texts, of BERT three (one longer sentence alone is a chunk, too). Each epoch visits every chunk once, in a
    pseudo-random order of its own. `len()` is the number of chunks.

    An example, with L the sequence length, all int32 but `index`:
        index: uint32, its place in the run, from which the objective's randomness is made.
        input_ids [L]: the text from the chunk's start on (to the document's end, if it comes first), framed as the tokenizer
            frames a text: of BERT `[CLS]` text `[SEP]`.
        attention_mask, token_type_ids, special_tokens_mask [L]: as in `transformers`.
        tokens, sentence_ids [2L]: the text from the chunk's start on, and the number of each token's sentence, from 0
            on; -1 beyond the document's end.
        other_tokens, other_sentence_ids [2L]: the same from a random sentence of another random document (of the same
            one, where there is no other).

    Args:
        corpus: the tokenised corpus.
        document_ids: documents to take text from (a side of `split_documents`).
        sequence_length: tokens of an example, special tokens included.
        seed: of the run.
        text_length: give `tokens` and `sentence_ids` alone, so many of them, for an objective that makes its own inputs.

    Raises:
        DataError: there is no text in those documents, a length is of no use, or the tokenizer has no token to pad with.
    """

    def __init__(
        self,
        corpus: Corpus,
        document_ids: Int[np.ndarray, " documents"],
        sequence_length: int,
        seed: int,
        text_length: int | None = None,
    ):
        if sequence_length < SHORTEST:
            raise DataError(f"sequence_length={sequence_length}: windows need at least {SHORTEST} tokens")
        if seed < 0:
            raise DataError(f"seed={seed}: give a seed of 0 or more")
        if text_length is not None and not 0 < text_length <= 2 * sequence_length:
            raise DataError(f"windows of {2 * sequence_length} tokens have no text of {text_length}")
        if corpus.vocabulary.pad is None and text_length is None:
            raise DataError("the tokenizer has no pad token, with which short texts are filled up: take one that has")
        document_ids = np.asarray(document_ids, np.int64)
        sentences = np.diff(corpus.document_offsets)[document_ids]
        if not sentences.any():
            raise DataError(
                f"the {len(document_ids)} document(s) chosen from {corpus.folder} hold no sentence: choose others"
            )
        self.corpus, self.sequence_length, self.seed, self.text_length = corpus, sequence_length, seed, text_length
        self.document_ids = np.sort(document_ids[sentences > 0])
        self.shuffled = True
        self._vocabulary = corpus.vocabulary
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self._starts = _chunk_starts(corpus, sequence_length)
        self._first_chunk = np.searchsorted(self._starts, corpus.document_offsets)
        self._before = np.concatenate([[0], np.cumsum(np.diff(self._first_chunk)[self.document_ids])])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.corpus, self.document_ids, self.sequence_length, self.seed, self.text_length)
        return _restored, (arguments, self.shuffled)

    def in_order(self) -> "Windows":
        """The same chunks one after the other, each once and unmoved: the form for evaluation, of `len()` examples."""
        ordered = copy.copy(self)
        ordered.shuffled = False
        return ordered

    def examples(self, count: int | None = None) -> Batch:
        """`count` chunks (all, where there are no more) spread evenly over the text, in order, for evaluation."""
        count = len(self) if count is None else min(count, len(self))
        return self.in_order().batch(np.arange(count) * len(self) // max(count, 1))

    def __getitem__(self, index: int) -> Batch:
        """Example `index` of the run, any number from 0 on."""
        return {name: np.asarray(array[0]) for name, array in self.batch(np.array([index])).items()}

    def batch(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The examples at `indices` of the run, stacked.

        Raises:
            IndexError: an index is negative, or beyond the chunks of `in_order()`.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or (not self.shuffled and indices.max() >= len(self))):
            raise IndexError(
                f"examples are numbered from 0{'' if self.shuffled else f' to {len(self) - 1}'}: {indices}"
            )
        words = self._random_words(indices)
        epochs, places = np.divmod(indices, len(self))
        if self.shuffled:
            places = shuffled_places(self.seed, epochs, places, len(self))
        owner = np.searchsorted(self._before, places, side="right") - 1
        documents = self.document_ids[owner]
        chunks = self._first_chunk[documents] + places - self._before[owner]
        starts = self._starts[chunks]
        is_last = chunks + 1 == self._first_chunk[documents + 1]
        sentences = self._starts[np.minimum(chunks + 1, len(self._starts) - 1)] - starts
        moved = _draw(words[:, 0], np.where(is_last, 1, sentences))
        starts = starts + np.where((epochs > 0) & self.shuffled, moved, 0)

        tokens, sentence_ids = self._window(starts, documents)
        index = indices.astype(np.uint32)
        if self.text_length is not None:
            width = self.text_length
            return {"index": index, "tokens": tokens[:, :width], "sentence_ids": sentence_ids[:, :width]}

        others = _draw(words[:, 1], np.full(len(owner), max(len(self.document_ids) - 1, 1)))
        others = self.document_ids[others + ((others >= owner) & (len(self.document_ids) > 1))]
        first = self.corpus.document_offsets[others]
        other_starts = first + _draw(words[:, 2], self.corpus.document_offsets[others + 1] - first)

        other_tokens, other_sentence_ids = self._window(other_starts, others)
        return {
            "index": index,
            **self._inputs(tokens, sentence_ids >= 0),
            "tokens": tokens,
            "sentence_ids": sentence_ids,
            "other_tokens": other_tokens,
            "other_sentence_ids": other_sentence_ids,
        }

    def _random_words(self, indices: Int64[np.ndarray, " batch"]) -> UInt64[np.ndarray, "batch 4"]:
        """Block *i* of the Philox stream whose key is the seed: the randomness of example *i*."""
        words = np.empty((len(indices), WORDS), np.uint64)
        begins = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        for begin, end in zip(begins, [*begins[1:], len(indices)], strict=True):
            generator = np.random.Philox(key=self._key, counter=[int(indices[begin]), 0, 0, 0])
            words[begin:end] = generator.random_raw(WORDS * (end - begin)).reshape(-1, WORDS)
        return words

    def _window(
        self, starts: Int64[np.ndarray, " batch"], documents: Int64[np.ndarray, " batch"]
    ) -> tuple[Int[np.ndarray, "batch window"], Int[np.ndarray, "batch window"]]:
        """Tokens and sentence numbers from each start sentence on, to the document's end or 2L tokens."""
        offsets, width = self.corpus.sentence_offsets, 2 * self.sequence_length
        begins, ends = offsets[starts], offsets[self.corpus.document_offsets[documents + 1]]
        places = begins[:, None] + np.arange(width)
        inside = places < ends[:, None]
        tokens = self.corpus.tokens[np.minimum(places, ends[:, None] - 1)].astype(np.int32)
        # A 1 where a sentence after the first begins, summed up along the window, numbers the sentences.
        beyond = np.searchsorted(offsets, np.minimum(ends, begins + width))
        counts = beyond - starts - 1
        rows = np.repeat(np.arange(len(starts)), counts)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        marks = np.zeros((len(starts), width), np.int32)
        marks[rows, offsets[starts[rows] + 1 + nth] - begins[rows]] = 1
        return (
            np.where(inside, tokens, self._vocabulary.pad or 0).astype(np.int32),
            np.where(inside, np.cumsum(marks, axis=1, dtype=np.int32), -1).astype(np.int32),
        )

    def _inputs(self, tokens: Int[np.ndarray, "batch window"], inside: Bool[np.ndarray, "batch window"]) -> Batch:
        """As many of the tokens as fit, in the frame of a text, and the masks that go with them."""
        framing, rows = self._vocabulary.framing, np.arange(len(tokens))
        room, first = self.sequence_length - framing.count, len(framing.begin)
        used = inside[:, :room].sum(axis=1)
        input_ids = np.full((len(tokens), self.sequence_length), self._vocabulary.pad, np.int32)
        input_ids[:, :first] = framing.begin
        input_ids[:, first : first + room] = tokens[:, :room]
        for number, token in enumerate(framing.end):
            input_ids[rows, first + used + number] = token
        place = np.arange(self.sequence_length)
        text = (place >= first) & (place < first + used[:, None])
        return {
            "input_ids": input_ids,
            "attention_mask": (place < framing.count + used[:, None]).astype(np.int32),
            "token_type_ids": np.zeros_like(input_ids),
            "special_tokens_mask": (~text).astype(np.int32),
        }


def _restored(arguments: tuple[Any, ...], shuffled: bool) -> Windows:
    windows = Windows(*arguments)
    return windows if shuffled else windows.in_order()


def _draw(words: UInt64[np.ndarray, " batch"], below: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
    """Uniform integers in [0, below) from random words, for below < 2^31 (the bias is less than below / 2^32)."""
    return ((words >> np.uint64(32)) * below.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def _chunk_starts(corpus: Corpus, sequence_length: int) -> Int64[np.ndarray, " chunks"]:
    """The first sentence of each chunk of the whole corpus, ascending; computed once and kept beside the corpus."""
    path = corpus.folder / f"chunks-{sequence_length}.npy"
    with locked(path):
        if not path.exists():
            with whole_file(path) as temporary:
                np.save(temporary, _cut_greedily(corpus, sequence_length - corpus.vocabulary.framing.pair_count))
    return np.load(path, mmap_mode="r")


def _cut_greedily(corpus: Corpus, most: int) -> Int64[np.ndarray, " chunks"]:
    """Cut each document into runs of whole sentences with at most `most` tokens, at least a sentence each.

    All documents advance by a chunk at a time, so that the work is vectorised over documents.
    """
    offsets = corpus.sentence_offsets
    heads, ends = corpus.document_offsets[:-1], corpus.document_offsets[1:]
    starts = []
    while len(heads):
        going = heads < ends
        heads, ends = heads[going], ends[going]
        starts.append(heads)
        heads = np.maximum(np.searchsorted(offsets, offsets[heads] + most, side="right") - 1, heads + 1)
    return np.sort(np.concatenate(starts))
