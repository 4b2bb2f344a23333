"""Packed text: documents joined end to end and cut into pieces of one length, as a map from places in the run to pieces.

Each document stands in the frame of a text, and ends with the token that ends one where that frame has no end, so that
documents can be told apart; nothing else is added.
"""

import copy
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from data.errors import DataError
from data.loader import Batch
from data.order import shuffled_places
from data.text.corpus import Corpus


def blank_piece(length: int) -> Batch:
    """An example with the names, shapes and dtypes of those of `Packed`, all zeros."""
    return {
        "index": np.zeros((), np.uint32),
        "tokens": np.zeros(length, np.int32),
        "document_ids": np.zeros(length, np.int32),
    }


class Packed:
    """Pieces cut from some documents of a corpus, which are read one after the other in their own order.

    Each epoch visits every piece once, in a pseudo-random order of its own. `len()` is the number of pieces; together they
    hold every token of every document. An example, int32 but `index`:

        index: uint32, its place in the run, from which the objective's randomness is made.
        tokens [length]: a document's tokens between what begins and what ends a text, then the next one's, and so on.
        document_ids [length]: a number for each document, the same for its frame; -1 beyond the last document.

    Args:
        corpus: the tokenised corpus.
        documents: those to take text from (a side of `split_documents`).
        length: tokens of a piece.
        overlap: how many tokens a piece shares with the next: 1 where each token is predicted from those before it, so that
            every token but the very first is asked for exactly once an epoch.
        seed: of the run.

    Raises:
        DataError: there is no text in those documents, no token ends a text, or pieces would not get on.
    """

    def __init__(
        self, corpus: Corpus, documents: Int[np.ndarray, " documents"], length: int, seed: int, *, overlap: int = 0
    ):
        if not 0 <= overlap < length:
            raise DataError(f"pieces of {length} tokens cannot share {overlap} with the next")
        if seed < 0:
            raise DataError(f"seed={seed}: give a seed of 0 or more")
        if corpus.vocabulary.eos is None:
            raise DataError("the tokenizer has no token that ends a text, which packed documents are told apart by")
        documents = np.sort(np.asarray(documents, np.int64))
        begins = corpus.sentence_offsets[corpus.document_offsets[documents]]
        sizes = corpus.sentence_offsets[corpus.document_offsets[documents + 1]] - begins
        if not sizes.any():
            raise DataError(
                f"the {len(documents)} document(s) chosen from {corpus.folder} hold no token: choose others"
            )
        self.corpus, self.length, self.overlap, self.seed = corpus, length, overlap, seed
        self.documents = documents[sizes > 0]
        self.shuffled = True
        self._begins = begins[sizes > 0]
        framing, eos = corpus.vocabulary.framing, corpus.vocabulary.eos
        self._begin, self._end = np.array(framing.begin, np.int64), np.array(framing.document_end(eos), np.int64)
        around = len(self._begin) + len(self._end)
        self._places = np.concatenate([[0], np.cumsum(sizes[sizes > 0] + around)])

    def __len__(self) -> int:
        return max(1, -(-(int(self._places[-1]) - self.overlap) // (self.length - self.overlap)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.corpus, self.documents, self.length, self.seed, self.overlap, self.shuffled)

    def in_order(self) -> "Packed":
        """The same pieces one after the other, each once: the form for evaluation, of `len()` examples."""
        ordered = copy.copy(self)
        ordered.shuffled = False
        return ordered

    def __getitem__(self, index: int) -> Batch:
        """Example `index` of the run, any number from 0 on."""
        return {name: np.asarray(array[0]) for name, array in self.batch(np.array([index])).items()}

    def batch(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The examples at `indices` of the run, stacked.

        Raises:
            IndexError: an index is negative, or beyond the pieces of `in_order()`.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or (not self.shuffled and indices.max() >= len(self))):
            raise IndexError(
                f"examples are numbered from 0{'' if self.shuffled else f' to {len(self) - 1}'}: {indices}"
            )
        epochs, pieces = np.divmod(indices, len(self))
        if self.shuffled:
            pieces = shuffled_places(self.seed, epochs, pieces, len(self))
        places = pieces[:, None] * (self.length - self.overlap) + np.arange(self.length)
        inside = places < self._places[-1]
        places = np.minimum(places, self._places[-1] - 1)
        documents = np.searchsorted(self._places, places, side="right") - 1
        after = places - self._places[documents] - len(self._begin)
        before = self._places[documents + 1] - len(self._end) - places
        within = np.clip(self._begins[documents] + after, 0, len(self.corpus.tokens) - 1)
        tokens = self.corpus.tokens[within].astype(np.int64)
        tokens = np.where(before <= 0, self._end[np.maximum(-before, 0) % len(self._end)], tokens)
        if len(self._begin):
            tokens = np.where(after < 0, self._begin[np.minimum(after, -1)], tokens)
        pad = self.corpus.vocabulary.eos if self.corpus.vocabulary.pad is None else self.corpus.vocabulary.pad
        return {
            "index": indices.astype(np.uint32),
            "tokens": np.where(inside, tokens, pad).astype(np.int32),
            "document_ids": np.where(inside, documents, -1).astype(np.int32),
        }


def _restored(corpus, documents, length, seed, overlap, shuffled) -> Packed:
    packed = Packed(corpus, documents, length, seed, overlap=overlap)
    return packed if shuffled else packed.in_order()
