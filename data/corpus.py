"""The tokenised corpus: every token of every sentence of every document, as memory-mapped flat arrays."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt
from tokenizers import Tokenizer

from data import tokenizers
from data.documents import Documents
from data.errors import DataError
from data.files import locked, whole_folder
from data.tokenizer_files import special_tokens, write_special_tokens

VERSION = 2
"""To be raised whenever the same documents would give other arrays."""

LONGEST_SENTENCE = 128
"""Tokens beyond which a sentence (verse, a text without full stops) is cut, so that no chunk loses much of it."""

BATCH = 256
"""Documents tokenised at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Tokens of sentences of documents; document *i* of the source is document *i* here, also where it has no sentence.

    Attributes:
        folder: where it lies.
        fingerprint: of documents, tokenizer, language and the version of this code.
        tokens: ids of all tokens, one after the other.
        sentence_offsets: where in `tokens` each sentence begins, and the end.
        document_offsets: which sentence each document begins with, and the end.
    """

    folder: Path
    fingerprint: str
    tokens: UInt[np.ndarray, " tokens"]
    sentence_offsets: Int64[np.ndarray, " sentence_offsets"]
    document_offsets: Int64[np.ndarray, " document_offsets"]

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

    def token_counts(self, document_ids: Int64[np.ndarray, " chosen"]) -> Int64[np.ndarray, " vocabulary"]:
        """How often each token occurs in some documents."""
        counts = np.zeros(self.vocabulary.size, np.int64)
        begins = self.sentence_offsets[self.document_offsets[document_ids]]
        ends = self.sentence_offsets[self.document_offsets[document_ids + 1]]
        for begin, end in zip(begins, ends, strict=True):
            counts += np.bincount(self.tokens[begin:end], minlength=len(counts))
        return counts

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
) -> Corpus:
    """Cut documents into sentences and tokenise them, or open what an earlier call made of the same.

    Memory is bounded: `BATCH` documents are read ahead by Grain's threads, cut, tokenised by the tokenizer's own
    threads and appended to the arrays on disk. A build that is killed leaves nothing that is taken for whole.

    Args:
        folder: where corpora are kept, each in a folder named by its fingerprint.
        language: whose rules end a sentence (an ISO 639 code).
        roles: {role: token} of special tokens, where the settings beside the tokenizer say any.

    Raises:
        DataError: the documents hold no token.
    """
    fingerprint = hashlib.sha256(
        json.dumps([VERSION, documents.fingerprint, tokenizer.to_str(), language, sorted(roles.items())]).encode()
    ).hexdigest()[:32]
    place = folder / fingerprint
    with locked(place):
        if not place.exists():
            with whole_folder(place) as temporary:
                _write(documents, tokenizer, temporary, language, fingerprint)
                write_special_tokens(temporary, roles)
    return Corpus.open(place)


def _write(documents: Documents, tokenizer: Tokenizer, folder: Path, language: str, fingerprint: str) -> None:
    literal = Tokenizer.from_str(tokenizer.to_str())
    literal.encode_special_tokens = True  # a "[MASK]" that stands in a text is text
    literal.no_truncation()
    literal.no_padding()
    dtypes = {
        "tokens": np.dtype("<u2" if max(literal.get_vocab(with_added_tokens=True).values()) < 2**16 else "<u4"),
        "sentence_offsets": np.dtype("<i8"),
        "document_offsets": np.dtype("<i8"),
    }
    counts = {"documents": 0, "sentences": 0, "tokens": 0}
    with (
        open(folder / "tokens", "wb") as tokens,
        open(folder / "sentence_offsets", "wb") as sentence_offsets,
        open(folder / "document_offsets", "wb") as document_offsets,
    ):
        np.zeros(1, dtypes["sentence_offsets"]).tofile(sentence_offsets)
        np.zeros(1, dtypes["document_offsets"]).tofile(document_offsets)
        for batch in _batches(_sentences(documents, language)):
            ids, lengths, sentences = _tokenised(batch, literal)
            ids.astype(dtypes["tokens"]).tofile(tokens)
            (counts["tokens"] + np.cumsum(lengths)).astype(dtypes["sentence_offsets"]).tofile(sentence_offsets)
            (counts["sentences"] + np.cumsum(sentences)).astype(dtypes["document_offsets"]).tofile(document_offsets)
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


def _sentences(documents: Documents, language: str) -> Iterator[list[str]]:
    """The sentences of each document, read ahead by threads, in order."""
    import grain

    source = grain.MapDataset.source(documents).map(functools.partial(_cut, language=language))
    return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=BATCH)))


def _cut(document: dict[str, str], language: str) -> list[str]:
    """The sentences of a document, each with the white space before it; none spans two paragraphs (lines)."""
    import sentencex

    sentences, between = [], ""
    for paragraph in document["text"].split("\n"):
        end = 0
        for sentence in sentencex.segment(language, paragraph):
            sentence = sentence.strip()
            begin = max(paragraph.find(sentence, end), end)
            sentences.append(between + paragraph[end:begin] + sentence)
            between, end = "", begin + len(sentence)
        between += paragraph[end:] + "\n"
    return sentences


def _batches(documents: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    return iter(lambda: list(itertools.islice(documents, BATCH)), [])


def _tokenised(
    batch: list[list[str]], tokenizer: Tokenizer
) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " sentences"], Int64[np.ndarray, " documents"]]:
    """Token ids of a batch of documents, the length of each sentence, and how many sentences each document has."""
    encodings = iter(tokenizer.encode_batch_fast(list(itertools.chain.from_iterable(batch)), add_special_tokens=False))
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    lengths: list[int] = []
    sentences = []
    for document in batch:
        before = len(lengths)
        for encoding in itertools.islice(encodings, len(document)):
            sentence = np.array(encoding.ids, np.int64)
            ids.append(sentence)
            whole, rest = divmod(len(sentence), LONGEST_SENTENCE)
            lengths += [LONGEST_SENTENCE] * whole + [rest] * (rest > 0)
        sentences.append(len(lengths) - before)
    return np.concatenate(ids), np.array(lengths, np.int64), np.array(sentences, np.int64)
