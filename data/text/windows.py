"""Windows of text: a stateless map from an example's place in the run to the example.

Devlin et al., "BERT", 2018, arXiv 1810.04805, with the walk of the released `create_pretraining_data.py` turned into a
function of (seed, i) alone: sentences are packed until the sequence is full. There, sentences that an example left
unused went back to the next one, so that the cuts moved from one pass over the text to the next; here, from the second
epoch on, each chunk begins at a sentence drawn among its own, which is a stateless stand-in for that.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64

from data.contract import Batch, Examples
from data.errors import DataError
from data.files import locked, whole_file
from data.forms import TextForm
from data.text.corpus import Corpus
from data.text.tokenizers import Vocabulary

WORDS = 4
"""64-bit random words that an example has: a block of the Philox generator."""

SHORTEST = 8
"""Least length of a window."""


def blank_window(form: TextForm) -> Batch:
    """What `Windows` make, all zeros, without a batch dimension."""
    if form.text_alone:
        return {name: np.zeros(form.raw, np.int32) for name in ("tokens", "sentence_ids")}
    inputs = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")
    texts = ("tokens", "sentence_ids", "other_tokens", "other_sentence_ids")
    return {
        **{name: np.zeros(form.length, np.int32) for name in inputs},
        **{name: np.zeros(2 * form.length, np.int32) for name in texts},
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Windows(Examples):
    """Examples cut from some documents of a corpus.

    An item is a chunk: a run of whole sentences of one document with at most `form.length` tokens less those that stand
    around two texts, of BERT three (one longer sentence alone is a chunk, too).

    An example, with L the form's length, all int32:
        input_ids [L]: the text from the chunk's start on (to the document's end, if it comes first), framed as the tokenizer
            frames a text: of BERT `[CLS]` text `[SEP]`.
        attention_mask, token_type_ids, special_tokens_mask [L]: as in `transformers`.
        tokens, sentence_ids [2L]: the text from the chunk's start on, and the number of each token's sentence, from 0
            on; -1 beyond the document's end.
        other_tokens, other_sentence_ids [2L]: the same from a random sentence of another random document (of the same
            one, where there is no other).

    Where the form wants the raw text alone, `tokens` and `sentence_ids` are all there is, `form.raw` of them.

    Attributes:
        corpus: the tokenised corpus.
        documents: those to take text from (a side of `split_documents`).

    Raises:
        DataError: there is no text in those documents, a length is of no use, or the tokenizer has no token to pad with.
    """

    corpus: Corpus
    documents: Int[np.ndarray, " documents"]

    def __post_init__(self) -> None:
        length, raw = self.form.length, self.form.raw
        if length < SHORTEST:
            raise DataError(f"length={length}: windows need at least {SHORTEST} tokens")
        if self.form.text_alone and not 0 < raw <= 2 * length:
            raise DataError(f"windows of {2 * length} tokens have no text of {raw}")
        if self._vocabulary.pad is None and not self.form.text_alone:
            raise DataError("the tokenizer has no pad token, with which short texts are filled up: take one that has")
        if not len(self._documents):
            raise DataError(
                f"the {len(self.documents)} document(s) chosen from {self.corpus.folder} hold no sentence: choose others"
            )
        super().__post_init__()

    @property
    def _vocabulary(self) -> Vocabulary:
        return self.corpus.vocabulary

    @functools.cached_property
    def _documents(self) -> Int64[np.ndarray, " documents"]:
        """Those that hold a sentence."""
        chosen = np.asarray(self.documents, np.int64)
        return np.sort(chosen[np.diff(self.corpus.document_offsets)[chosen] > 0])

    @functools.cached_property
    def _starts(self) -> Int64[np.ndarray, " chunks"]:
        return _chunk_starts(self.corpus, self.form.length)

    @functools.cached_property
    def _first_chunk(self) -> Int64[np.ndarray, " documents"]:
        """The first chunk of each document of the corpus, and the end."""
        return np.searchsorted(self._starts, self.corpus.document_offsets)

    @functools.cached_property
    def _before(self) -> Int64[np.ndarray, " documents"]:
        """How many chunks the documents before each of those chosen have, and all."""
        return np.concatenate([[0], np.cumsum(np.diff(self._first_chunk)[self._documents])])

    @functools.cached_property
    def _key(self) -> UInt64[np.ndarray, " 2"]:
        return np.random.SeedSequence(self.seed).generate_state(2, np.uint64)

    def __len__(self) -> int:
        return int(self._before[-1])

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: TextForm) -> Batch:
        words = self._random_words(indices)
        owner = np.searchsorted(self._before, items, side="right") - 1
        documents = self._documents[owner]
        chunks = self._first_chunk[documents] + items - self._before[owner]
        starts = self._starts[chunks]
        is_last = chunks + 1 == self._first_chunk[documents + 1]
        sentences = self._starts[np.minimum(chunks + 1, len(self._starts) - 1)] - starts
        moved = _draw(words[:, 0], np.where(is_last, 1, sentences))
        starts = starts + np.where((indices >= len(self)) & self.shuffled, moved, 0)

        tokens, sentence_ids = self._window(starts, documents)
        if form.text_alone:
            return {"tokens": tokens[:, : form.raw], "sentence_ids": sentence_ids[:, : form.raw]}

        others = _draw(words[:, 1], np.full(len(owner), max(len(self._documents) - 1, 1)))
        others = self._documents[others + ((others >= owner) & (len(self._documents) > 1))]
        first = self.corpus.document_offsets[others]
        other_starts = first + _draw(words[:, 2], self.corpus.document_offsets[others + 1] - first)

        other_tokens, other_sentence_ids = self._window(other_starts, others)
        return {
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
        offsets, width = self.corpus.sentence_offsets, 2 * self.form.length
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
        room, first = self.form.length - framing.count, len(framing.begin)
        used = inside[:, :room].sum(axis=1)
        input_ids = np.full((len(tokens), self.form.length), self._vocabulary.pad, np.int32)
        input_ids[:, :first] = framing.begin
        input_ids[:, first : first + room] = tokens[:, :room]
        for number, token in enumerate(framing.end):
            input_ids[rows, first + used + number] = token
        place = np.arange(self.form.length)
        text = (place >= first) & (place < first + used[:, None])
        return {
            "input_ids": input_ids,
            "attention_mask": (place < framing.count + used[:, None]).astype(np.int32),
            "token_type_ids": np.zeros_like(input_ids),
            "special_tokens_mask": (~text).astype(np.int32),
        }


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
