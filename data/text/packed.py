"""Packed text: documents joined end to end and cut into pieces of one length, as a map from places in the run to pieces.

Each document stands in the frame of a text, and ends with the token that ends one where that frame has no end, so that
documents can be distinguished; nothing else is added.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int, Int64

from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import TextForm
from data.text.corpus import Corpus


def blank_piece(form: TextForm) -> Batch:
    """What `Packed` makes, all zeros, without a batch dimension."""
    return {name: np.zeros(form.raw, np.int32) for name in ("tokens", "document_ids")}


@dataclasses.dataclass(frozen=True, eq=False)
class Packed(Examples):
    """Pieces of `form.raw` tokens cut from some documents of a corpus, which are read one after the other in their order.

    Together the pieces hold every token of every document. With `form.overlap` 1, where each token is predicted from those
    before it, every token but the very first is asked for exactly once an epoch. An example, int32:

        tokens [raw]: a document's tokens between what begins and what ends a text, then the next one's, and so on.
        document_ids [raw]: a number for each document, the same for its frame; -1 beyond the last document.

    Attributes:
        corpus: the tokenised corpus.
        documents: those to take text from (a side of `split_documents`).

    Raises:
        DataError: there is no text in those documents, no token ends a text, or pieces would not get on.
    """

    corpus: Corpus
    documents: Int[np.ndarray, " documents"]

    def __post_init__(self) -> None:
        raw, overlap = self.form.raw, self.form.overlap
        if not 0 <= overlap < raw:
            raise DataError(f"pieces of {raw} tokens cannot share {overlap} with the next")
        if self.corpus.vocabulary.eos is None:
            raise DataError("the tokenizer has no token that ends a text, which separates packed documents")
        if not len(self._begins):
            raise DataError(
                f"the {len(self.documents)} document(s) chosen from {self.corpus.folder} hold no token: choose others"
            )
        super().__post_init__()

    @functools.cached_property
    def _spans(self) -> Int64[np.ndarray, "2 documents"]:
        """Where the tokens of each document begin and end, of those that have some."""
        chosen = np.sort(np.asarray(self.documents, np.int64))
        spans = self.corpus.spans(chosen)
        return spans[:, spans[0] < spans[1]]

    @property
    def _begins(self) -> Int64[np.ndarray, " documents"]:
        return self._spans[0]

    @functools.cached_property
    def _frame(self) -> tuple[np.ndarray, np.ndarray]:
        """What begins and what ends a document."""
        framing, eos = self.corpus.vocabulary.framing, self.corpus.vocabulary.eos
        return np.array(framing.begin, np.int64), np.array(framing.document_end(eos), np.int64)

    @functools.cached_property
    def _places(self) -> Int64[np.ndarray, " documents"]:
        """Where each document begins in the packed text, and the end."""
        around = sum(map(len, self._frame))
        return np.concatenate([[0], np.cumsum(np.diff(self._spans, axis=0)[0] + around)])

    def __len__(self) -> int:
        raw, overlap = self.form.raw, self.form.overlap
        return max(1, -(-(int(self._places[-1]) - overlap) // (raw - overlap)))

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: TextForm) -> Batch:
        begin, end = self._frame
        places = items[:, None] * (form.raw - form.overlap) + np.arange(form.raw)
        inside = places < self._places[-1]
        places = np.minimum(places, self._places[-1] - 1)
        documents = np.searchsorted(self._places, places, side="right") - 1
        after = places - self._places[documents] - len(begin)
        before = self._places[documents + 1] - len(end) - places
        within = np.clip(self._begins[documents] + after, 0, len(self.corpus.tokens) - 1)
        tokens = self.corpus.tokens[within].astype(np.int64)
        tokens = np.where(before <= 0, end[np.maximum(-before, 0) % len(end)], tokens)
        if len(begin):
            tokens = np.where(after < 0, begin[np.minimum(after, -1)], tokens)
        pad = self.corpus.vocabulary.eos if self.corpus.vocabulary.pad is None else self.corpus.vocabulary.pad
        return {
            "tokens": np.where(inside, tokens, pad).astype(np.int32),
            "document_ids": np.where(inside, documents, -1).astype(np.int32),
        }
