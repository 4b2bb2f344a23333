"""Text as an experiment names it: a source, a tokenizer, a held-out side; made ready once and cached."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tyro
from tokenizers import Tokenizer

from data.contents import Progress
from data.contract import Batch, Config, Examples, Prepared, Source
from data.errors import DataError
from data.forms import Form, TextForm
from data.survey import Survey, counted, text_counts
from data.text.corpus import Corpus, build_corpus
from data.text.documents import Documents, open_documents, split_documents
from data.text.packed import Packed, blank_piece
from data.text.templates import DEFAULTS, TEMPLATES, Template, template
from data.text.token_ids import check_token_ids, with_token_ids
from data.text.tokenizer_settings import special_tokens, write_special_tokens
from data.text.tokenizers import Vocabulary, blank_vocabulary, load, train_tokenizer
from data.text.windows import Windows, blank_window

SENTINELS = 100
"""How many `<extra_id_…>` a tokenizer has that is trained here for an objective that uses them, as T5's."""


@dataclasses.dataclass(frozen=True)
class Text(Source):
    """Where the text comes from.

    Attributes:
        source: `wikipedia_dump` (the pages that the `demo` extra installs), a `*-pages-articles.xml.bz2`, a folder of
            `.txt` files (one document each, long ones cut at paragraphs), such a file, `.jsonl` (an object with a `text` in
            each line), or a TFDS name such as `wikipedia/20230601.en`.
        tokenizer: a published `tokenizer.json`, `vocab.txt`, … (`data/text/tokenizer_files.py`), or the folder of one; trained on
            the training documents where empty, with as many tokens as the model's vocabulary.
        kind: of a tokenizer trained here: `wordpiece` (BERT), `byte_bpe` (GPT-2, BART) or `unigram` (T5).
        template: of a tokenizer trained here: the architecture whose special tokens it has, around texts as that has them
            (a key of `data.text.templates.TEMPLATES`); the model's where empty.
        vocab_size: of a tokenizer trained here, where the model has room for more tokens than it is to know.
        lowercase: of wordpieces trained here.
        language: ISO 639-1 code of the rules that split sentences, and of the token that mBART's texts end with.
        trained_here: whether the tokenizer that is named was trained on this source.
    """

    forms: ClassVar[type[Form]] = TextForm

    source: str = "wikipedia_dump"
    tokenizer: str = ""
    kind: str = "wordpiece"
    template: str = ""
    vocab_size: int | None = None
    lowercase: bool = True
    language: str = "en"
    trained_here: tyro.conf.Suppress[bool] = dataclasses.field(default=False, repr=False)

    @property
    def trains_tokenizer(self) -> bool:
        return self.tokenizer == ""

    def read_with(self, tokenizer: Path, trained_here: bool = False) -> Self:
        return dataclasses.replace(self, tokenizer=str(tokenizer), trained_here=trained_here)

    def suited_to(self, model_type: str) -> Self:
        if self.template or model_type not in TEMPLATES:
            return self
        return dataclasses.replace(self, template=model_type)

    def prepare(self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()) -> "PreparedText":
        """Documents → tokenizer → tokenised corpus; what is there already is taken.

        Args:
            needs: what the objective needs of a vocabulary: with `sentinels`, one trained here gets `SENTINELS` of them.

        Raises `DataError` with a sentence where the source, the tokenizer or the split is of no use.
        """
        say(f"opening {self.source}")
        documents = open_documents(self.source, self.cache_folder, broken=self.broken, say=say)
        training, held_out = split_documents(documents, self.held_out, self.split_seed)
        tokenizer = self.prepare_tokenizer(documents, training, size, needs, say)
        say(f"tokenising {len(documents):,} documents")
        corpus = self.tokenised(documents, tokenizer)
        return PreparedText(
            corpus.vocabulary,
            corpus.fingerprint,
            training,
            held_out,
            amounts={name: corpus.counts[name] for name in ("sentences", "tokens")},
            tokenizer=tokenizer,
            corpus=corpus,
            trained_here=self.trains_tokenizer or self.trained_here,
        )

    @property
    def roles(self) -> dict[str, str]:
        """{role: token} that the settings beside the tokenizer say, where one is named."""
        return special_tokens(self.tokenizer) if self.tokenizer else {}

    def prepare_tokenizer(
        self,
        documents: Documents,
        training: np.ndarray,
        vocab_size: int,
        needs: Sequence[str],
        say: Callable[[str], None],
    ) -> Tokenizer:
        """The tokenizer that is named, or one trained on these documents once."""
        if not self.trains_tokenizer:
            return load(self.tokenizer)
        vocab_size = self.vocab_size or vocab_size
        sentinels = SENTINELS if "sentinels" in needs else 0
        texts = documents.texts(training)
        template = self.template_needing(needs)
        about = [texts.fingerprint, vocab_size, self.lowercase, self.kind, template.digest, sentinels]
        path = self.cache_folder / "tokenizers" / "-".join(map(str, about)) / "tokenizer.json"
        if not path.exists():
            say(f"training a {self.kind} tokenizer on {len(training):,} documents")
            train_tokenizer(
                texts,
                kind=self.kind,
                vocab_size=vocab_size,
                lowercase=self.lowercase,
                template=template,
                sentinels=sentinels,
                path=path,
            )
        return load(path)

    def tokenised(self, documents: Documents, tokenizer: Tokenizer, **options: Any) -> Corpus:
        """The tokenised corpus of some documents, built once; options are those of `build_corpus`."""
        options = {"language": self.language, "roles": self.roles, **options}
        return build_corpus(documents, tokenizer, self.cache_folder / "corpora", **options)

    def survey(self, progress: Progress) -> Survey:
        documents = open_documents(self.source, self.cache_folder, broken="skip", progress=progress, again=True)
        train, held_out = split_documents(documents, self.held_out, self.split_seed)
        counts = counted("documents", documents.text_hashes, train, held_out)
        return Survey(counts | text_counts(documents.text_sizes, held_out, "documents"), documents.broken)

    def template_needing(self, needs: Sequence[str]) -> Template:
        """The special tokens of a tokenizer trained here, and what stands around texts."""
        if self.kind not in DEFAULTS:
            raise DataError(f"no tokenizer of the kind {self.kind!r}: there are {', '.join(DEFAULTS)}")
        return template(self.template or DEFAULTS[self.kind], self.language).having(needs)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Vocabulary:
        sentinels = SENTINELS if "sentinels" in needs else 0
        return blank_vocabulary(size, sentinels, self.template_needing(needs))

    def blank(self, form: TextForm) -> Batch:
        form.check_text()
        return blank_piece(form) if form.packed else blank_window(form)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedText(Prepared):
    """Text made ready: the tokenizer and the tokenised corpus.

    Attributes:
        trained_here: whether the tokenizer was trained on these documents, rather than named.
    """

    tokenizer: Tokenizer
    corpus: Corpus
    trained_here: bool

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config with labels, and with the ids of a tokenizer that was trained for it.

        Raises:
            DataError: a tokenizer that was not, and the config, disagree.
        """
        config = super().adapt(config, start)
        if self.trained_here:
            config = with_token_ids(config, self.vocabulary, start)
        check_token_ids(config, self.vocabulary, start)
        return config

    def training(self, form: Form, seed: int) -> Examples:
        """Raises `DataError` where the source has nothing to train on."""
        if not len(self.training_items):
            raise DataError("the source has no split `train`: it is there to evaluate on alone")
        return super().training(form, seed)

    def save(self, folder: Path, form: Form) -> None:
        """Write `tokenizer.json`, and its special tokens' roles."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        write_special_tokens(folder, special_tokens(self.corpus.folder))

    def examples(self, items: np.ndarray, form: TextForm, seed: int) -> Windows | Packed:
        form.check_text()
        return (Packed if form.packed else Windows)(self.corpus, items, form=form, seed=seed)
