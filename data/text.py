"""Text as an experiment names it: a source, a tokenizer, a held-out share; made ready once and cached."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data.corpus import Corpus, build_corpus
from data.documents import open_documents, split_documents
from data.tokenizers import Vocabulary, blank_vocabulary, load, train_wordpiece, vocabulary
from data.windows import Batch, Windows, blank_window


@dataclasses.dataclass(frozen=True)
class Text:
    """Where the text comes from.

    Attributes:
        source: `wikipedia_dump` (the pages that the `demo` extra installs), a `*-pages-articles.xml.bz2`, a folder of
            `.txt` files (one document each), or a TFDS name such as `wikipedia/20230601.en`.
        tokenizer: a published `tokenizer.json` or `vocab.txt`, or the folder of one; trained on the training documents
            where empty, with as many tokens as the model's vocabulary.
        lowercase: of a tokenizer trained here.
        language: ISO 639-1 code of the rules that split sentences.
        held_out: share of the documents kept for evaluation.
        split_seed: which documents those are.
        workers: processes that prepare batches; 0 does it in threads of this one.
        cache: folder of prepared data; `$LACUNA_CACHE` or `~/.cache/lacuna` where empty.
    """

    source: str = "wikipedia_dump"
    tokenizer: str = ""
    lowercase: bool = True
    language: str = "en"
    held_out: float = 0.05
    split_seed: int = 0
    workers: int = 0
    cache: str = ""

    def prepare(self, vocab_size: int, folder: Path, say: Callable[[str], None]) -> "Prepared":
        """Documents → tokenizer → tokenised corpus; what is there already is taken. The tokenizer also goes to `folder`.

        Raises `DataError` with a sentence where the source, the tokenizer or the split is of no use.
        """
        cache = Path(self.cache or os.environ.get("LACUNA_CACHE", "~/.cache/lacuna")).expanduser()
        say(f"opening {self.source}")
        documents = open_documents(self.source, cache)
        training, held_out = split_documents(documents, self.held_out, self.split_seed)
        if self.tokenizer:
            tokenizer = load(self.tokenizer)
        else:
            name = f"{documents.fingerprint}-{self.held_out}-{self.split_seed}-{vocab_size}-{self.lowercase}"
            path = cache / "tokenizers" / name / "tokenizer.json"
            if not path.exists():
                say(f"training a WordPiece tokenizer on {len(training):,} documents")
                train_wordpiece(documents.texts(training), vocab_size=vocab_size, lowercase=self.lowercase, path=path)
            tokenizer = load(path)
        say(f"tokenising {len(documents):,} documents")
        corpus = build_corpus(documents, tokenizer, cache / "corpora", language=self.language)
        return Prepared(tokenizer, vocabulary(tokenizer), corpus, training, held_out)

    def outline(self, vocab_size: int) -> "Outline":
        """What the examples are going to look like, without a look at the source."""
        return Outline(blank_vocabulary(vocab_size))


@dataclasses.dataclass(frozen=True)
class Outline:
    """Text that is not there: blank examples of the names, shapes and dtypes of the real ones, to compile for."""

    vocabulary: Vocabulary

    def training(self, sequence_length: int, seed: int) -> list[Batch]:
        """A single example, in place of the stream of `Prepared.training`."""
        return [blank_window(sequence_length)]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Text made ready: the tokenizer, the tokenised corpus and its two sets of documents."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    corpus: Corpus
    training_documents: np.ndarray
    held_out_documents: np.ndarray

    def training(self, sequence_length: int, seed: int) -> Windows:
        """The endless stream of training examples: a function of the seed and an example's place in it."""
        return Windows(self.corpus, self.training_documents, sequence_length, seed)

    def held_out(self, sequence_length: int) -> Windows:
        """The held-out chunks, each once, in order."""
        return Windows(self.corpus, self.held_out_documents, sequence_length, seed=0).in_order()
