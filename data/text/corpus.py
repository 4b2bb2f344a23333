"""The tokenised corpus: every token of every sentence of every document, as memory-mapped flat arrays."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt
from tokenizers import Tokenizer

from data.errors import DataError
from data.files import locked, whole_folder
from data.ragged import stacked
from data.text import tokenizers
from data.text.documents import Documents
from data.text.tokenizer_settings import special_tokens, write_special_tokens

VERSION = 2
"""To be raised whenever the same documents would give other arrays."""

LONGEST_SENTENCE = 128
"""Tokens beyond which a sentence (verse, a text without full stops) is cut, so that no chunk loses much of it."""

BATCH = 256
"""Documents tokenised at a time."""

CHARACTERS = 1 << 22
"""Characters tokenised at a time, which bounds what tokens and their places take (about 200 bytes a token)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Tokens of sentences of documents; document *i* of the source is document *i* here, also where it has no sentence.

    Attributes:
        folder: where it lies.
        fingerprint: of documents, tokenizer, language and the version of this code.
        tokens: ids of all tokens, one after the other.
        sentence_offsets: where in `tokens` each sentence begins, and the end.
        document_offsets: which sentence each document begins with, and the end.
        places: where in its document each token stands: its first character, and the one behind its last; `None` where nobody
            asked for them.
    """

    folder: Path
    fingerprint: str
    tokens: UInt[np.ndarray, " tokens"]
    sentence_offsets: Int64[np.ndarray, " sentence_offsets"]
    document_offsets: Int64[np.ndarray, " document_offsets"]
    places: Int32[np.ndarray, "tokens 2"] | None = None

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """The corpus that `build_corpus` left in `folder`.

        Raises:
            DataError: there is none, or it is damaged.
        """
        try:
            about = json.loads((folder / "corpus.json").read_text())
            arrays = {
                name: np.asarray(np.memmap(folder / name, dtype, mode="r")) for name, dtype in about["dtypes"].items()
            }
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{folder} holds no whole corpus ({error}): delete the folder, and it is built again"
            ) from None
        if "places" in arrays:
            arrays["places"] = arrays["places"].reshape(-1, 2)
        corpus = cls(folder, about["fingerprint"], **arrays)
        if corpus.counts != about["counts"]:
            raise DataError(
                f"the corpus in {folder} is damaged: it should hold {about['counts']} and holds {corpus.counts};"
                " delete the folder, and it is built again"
            )
        return corpus

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)  # a worker maps the files rather than receiving a copy

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of documents, sentences and tokens."""
        return {
            "documents": len(self.document_offsets) - 1,
            "sentences": len(self.sentence_offsets) - 1,
            "tokens": len(self.tokens),
        }

    def rows(
        self,
        document_ids: Int64[np.ndarray, " chosen"],
        length: int,
        begin: tuple[int, ...],
        end: tuple[int, ...],
        fill: int,
    ) -> Int32[np.ndarray, "chosen length"]:
        """A row for each document, cut where it is longer, between special tokens; `fill` behind them."""
        starts, ends = self.spans(document_ids)
        ends = np.minimum(ends, starts + length - len(begin) - len(end))
        rows = [
            np.array([*begin, *self.tokens[start:stop], *end], np.int32)
            for start, stop in zip(starts, ends, strict=True)
        ]
        return stacked(rows, length, fill)

    def spans(self, document_ids: Int64[np.ndarray, " chosen"]) -> Int64[np.ndarray, "2 chosen"]:
        """Where in `tokens` some documents begin and end."""
        return np.stack([self.sentence_offsets[self.document_offsets[document_ids + end]] for end in (0, 1)])

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it was made with."""
        return tokenizers.load(self.folder / "tokenizer.json")

    @functools.cached_property
    def vocabulary(self) -> tokenizers.Vocabulary:
        """The vocabulary it was made with."""
        return tokenizers.vocabulary(self.tokenizer, special_tokens(self.folder))


def build_corpus(
    documents: Documents,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    language: str = "en",
    roles: Mapping[str, str] = MappingProxyType({}),
    places: bool = False,
) -> Corpus:
    """Cut documents into sentences and tokenise them, or open what an earlier call made of the same.

    Memory is bounded, but for a single document beyond the bounds: `BATCH` documents are read ahead by Grain's threads and
    cut, `CHARACTERS` at a time are tokenised by the tokenizer's threads and appended to the arrays on disk. A build that is
    killed leaves nothing that is taken for whole.

    Args:
        folder: where corpora are kept, each in a folder named by its fingerprint.
        language: whose rules end a sentence (an ISO 639 code).
        roles: {role: token} of special tokens, where the settings beside the tokenizer say any.
        places: keep the places of the tokens, too.

    Raises:
        DataError: the documents hold no token.
    """
    about = [VERSION, documents.fingerprint, tokenizer.to_str(), language, sorted(roles.items())]
    about += ["places"] * places
    fingerprint = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    place = folder / fingerprint
    with locked(place):
        if not place.exists():
            with whole_folder(place) as temporary:
                _write(documents, tokenizer, temporary, language, fingerprint, places)
                write_special_tokens(temporary, roles)
    return Corpus.open(place)


def _write(
    documents: Documents, tokenizer: Tokenizer, folder: Path, language: str, fingerprint: str, places: bool
) -> None:
    literal = Tokenizer.from_str(tokenizer.to_str())
    literal.encode_special_tokens = True  # a "[MASK]" that stands in a text is text
    literal.no_truncation()
    literal.no_padding()
    dtypes = {
        "tokens": np.dtype("<u2" if max(literal.get_vocab(with_added_tokens=True).values()) < 2**16 else "<u4"),
        "sentence_offsets": np.dtype("<i8"),
        "document_offsets": np.dtype("<i8"),
        **({"places": np.dtype("<i4")} if places else {}),
    }
    counts = {"documents": 0, "sentences": 0, "tokens": 0}
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(open(folder / name, "wb")) for name in dtypes}

        def append(name: str, values: np.ndarray) -> None:
            values.astype(dtypes[name]).tofile(opened[name])

        append("sentence_offsets", np.zeros(1))
        append("document_offsets", np.zeros(1))
        for batch in _batches(_cut_documents(documents, language)):
            ids, lengths, sentences, spans = _tokenised(batch, literal)
            append("tokens", ids)
            append("sentence_offsets", counts["tokens"] + np.cumsum(lengths))
            append("document_offsets", counts["sentences"] + np.cumsum(sentences))
            if places:
                append("places", spans)
            counts["documents"] += len(batch)
            counts["sentences"] += len(lengths)
            counts["tokens"] += len(ids)
    if not counts["tokens"]:
        raise DataError(f"the {len(documents)} document(s) of {documents.name} hold no token: give some that hold text")
    literal.encode_special_tokens = False
    literal.save(str(folder / "tokenizer.json"))
    about = {
        "fingerprint": fingerprint,
        "source": documents.name,
        "language": language,
        "counts": counts,
        "dtypes": {name: dtype.str for name, dtype in dtypes.items()},
    }
    (folder / "corpus.json").write_text(json.dumps(about, indent=2) + "\n")


def _cut_documents(documents: Documents, language: str) -> Iterator[tuple[str, list[int]]]:
    """The text of each document and where its sentences end, read ahead by threads, in order."""
    import grain

    source = grain.MapDataset.source(documents).map(functools.partial(_cut, language=language))
    return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=BATCH)))


def _cut(document: dict[str, str], language: str) -> tuple[str, list[int]]:
    """The text of a document without the white space at its end, and the place behind the last character of each sentence.

    The white space between two sentences is the second one's. None spans two paragraphs (lines).
    """
    import sentencex

    text, ends, base = document["text"].rstrip(), [], 0
    for paragraph in text.split("\n"):
        end = 0
        for sentence in filter(None, map(str.strip, sentencex.segment(language, paragraph))):
            end = max(paragraph.find(sentence, end), end) + len(sentence)
            ends.append(base + end)
        base += len(paragraph) + 1
    return text, ends


def _batches(documents: Iterator[tuple[str, list[int]]]) -> Iterator[list[tuple[str, list[int]]]]:
    """Documents together, at most `BATCH` of them and, but for a longer one, of `CHARACTERS`."""
    batch: list[tuple[str, list[int]]] = []
    characters = 0
    for document in documents:
        if batch and (len(batch) == BATCH or characters + len(document[0]) > CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document[0])
    if batch:
        yield batch


def _tokenised(
    batch: list[tuple[str, list[int]]], tokenizer: Tokenizer
) -> tuple[
    Int64[np.ndarray, " tokens"],
    Int64[np.ndarray, " sentences"],
    Int64[np.ndarray, " documents"],
    Int64[np.ndarray, "tokens 2"],
]:
    """Token ids of a batch of documents, the length of each sentence, how many sentences each document has, and where in its
    document each token stands.

    A document is tokenised whole: its tokens are those that the tokenizer gives for it. A token belongs to the sentence that
    its first character stands in, so that a full stop and the line ends that are one token with it go to the sentence before.
    """
    encodings = tokenizer.encode_batch([text for text, _ in batch], add_special_tokens=False)
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    lengths: list[np.ndarray] = [np.empty(0, np.int64)]
    places: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    sentences = []
    for (_, ends), encoding in zip(batch, encodings, strict=True):
        ids.append(np.array(encoding.ids, np.int64))
        places.append(np.array(encoding.offsets, np.int64).reshape(-1, 2))
        owners = np.minimum(np.searchsorted(ends, places[-1][:, 0], side="right"), max(len(ends) - 1, 0))
        counts = np.bincount(owners)
        parts = _parts(counts[counts > 0])
        lengths.append(parts)
        sentences.append(len(parts))
    return np.concatenate(ids), np.concatenate(lengths), np.array(sentences, np.int64), np.concatenate(places)


def _parts(lengths: Int64[np.ndarray, " sentences"]) -> Int64[np.ndarray, " parts"]:
    """Lengths of sentences, those beyond `LONGEST_SENTENCE` in several."""
    pieces = -(-lengths // LONGEST_SENTENCE)
    parts = np.full(pieces.sum(), LONGEST_SENTENCE)
    parts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * LONGEST_SENTENCE
    return parts
