"""Texts that are each in a class: folders of class folders, tables of text and label, TFDS data sets."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32, Int64

from data.class_folders import Wanted, class_folders, sides
from data.contents import Broken, Joined, Progress, spoken
from data.contract import Batch, Examples
from data.errors import DataError
from data.files import state_of
from data.forms import TextForm
from data.splits import split_by_content
from data.survey import Survey, in_both, repeated, text_counts
from data.text.corpus import Corpus, build_corpus
from data.text.documents import WIKIPEDIA_DUMP, Chosen, Documents, text_contents
from data.text.files import read_text
from data.text.source import PreparedText, Text
from data.text.tables import SUFFIXES, Column, Columns, open_table
from data.text.tokenizers import Vocabulary
from data.tfds import shard_states, tfds_builder, tfds_split


@dataclasses.dataclass(frozen=True)
class LabelledText(Text):
    """Where texts and their labels come from; settings beside these are those of `Text`.

    The names of the labels are those of folders, of a table's column, sorted (whole numbers by their value), or of TFDS.

    Attributes:
        source: a folder with a folder of `.txt` files for each class, or with folders `train` and `validation` (`val`) of
            those; a `.tsv` or `.jsonl` file, or a folder of them; or a TFDS name such as `glue/sst2`.
        features: names of text and label: of columns (the first line of a `.tsv` has the names), of keys, of features.
        held_out_split: the split that is held out; where empty, `validation` if the source has one.
    """

    documents: ClassVar[str] = "texts"

    source: str = ""
    features: tuple[str, str] = ("text", "label")
    held_out_split: str = ""

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedLabelled":
        """Texts → tokenizer → tokenised corpus; what is there already is taken."""
        cache = self.cache_folder
        say(f"opening {self.source}")
        texts = self._open(say)
        training, held_out = self._split(texts)
        tokenizer = self.prepare_tokenizer(
            texts.documents, training if len(training) else held_out, size, needs, cache, say
        )
        say(f"tokenising {len(texts.documents):,} texts")
        corpus = build_corpus(texts.documents, tokenizer, cache / "corpora", language=self.language, roles=self.roles)
        return PreparedLabelled(
            dataclasses.replace(corpus.vocabulary, labels=texts.classes),
            f"{corpus.fingerprint} {texts.fingerprint}",
            training,
            held_out,
            amounts={"tokens": len(corpus.tokens)},
            tokenizer=tokenizer,
            corpus=corpus,
            trained_here=self.trains_tokenizer or self.trained_here,
            given=texts.held_out is not None,
            labels=texts.labels,
        )

    def survey(self, progress: Progress) -> Survey:
        texts = self._open(lambda _: None, progress, skip=True)
        training, held_out = self._split(texts)
        hashes, counts = texts.documents.text_hashes, np.bincount(texts.labels, minlength=len(texts.classes))
        return Survey(
            {
                "texts that can be read": f"{len(hashes):,}",
                "texts that came before": f"{repeated(hashes):,}",
                "held-out texts that are trained on, too": f"{in_both(hashes, hashes, training, held_out):,}",
                **text_counts(texts.documents.text_sizes, held_out, "texts"),
                "classes": f"{len(counts):,}, of {counts.min():,} to {counts.max():,} texts",
            },
            texts.documents.broken,
        )

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Vocabulary:
        return dataclasses.replace(super().blank_vocabulary(size, needs), labels=("LABEL_0", "LABEL_1"))

    def blank(self, form: TextForm) -> Batch:
        ids = np.zeros(form.length, np.int32)
        return {"input_ids": ids, "attention_mask": ids, "labels": np.zeros((), np.int32)}

    def _open(self, say: Callable[[str], None], progress: Progress | None = None, skip: bool = False) -> "Texts":
        path, broken = Path(self.source).expanduser(), "skip" if skip else self.broken
        if path.is_dir() and any(entry.is_dir() for entry in path.iterdir()):
            opened = _folders(path)
        elif path.exists() or path.suffix.lower() in SUFFIXES or self.source.startswith((".", "/", "~")):
            opened = _table(self.source, self.features, broken, say)
        else:
            opened = _tfds(self.source, self.features)
        training, held_out = sides(opened.splits, self.held_out_split, self.source)
        parts = [part for part in (training, held_out) if part is not None]
        items = parts[0].items if len(parts) == 1 else Joined(*(part.items for part in parts))
        labels = np.concatenate([part.labels for part in parts])
        if labels.min() < 0:
            raise DataError(
                f"text {labels.argmin()} of {self.source} has the label {labels.min()}: this split keeps its labels to itself,"
                " set --data.held-out-split to another"
            )
        progress = progress or spoken(say, f"the texts of {self.source}")
        contents = text_contents(items, self.source, self.cache_folder, opened.state, progress, skip)
        kept = contents.kept(broken, self.source, "text", say)
        reasons = (*opened.broken, *contents.broken.values())
        chosen = items if len(kept) == len(items) else Chosen(items, kept)
        documents = Documents(chosen, self.source, contents.hashes[kept], contents.sizes[kept], reasons)
        first = 0 if training is None else len(training.labels)
        return Texts(documents, opened.classes, labels[kept], None if held_out is None else kept >= first)

    def _split(self, texts: "Texts") -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
        if texts.held_out is not None:
            return np.flatnonzero(~texts.held_out), np.flatnonzero(texts.held_out)
        documents = texts.documents
        return split_by_content(
            documents.text_hashes,
            documents.text_sizes,
            self.held_out,
            self.split_seed,
            f"{self.source} holds",
            "text",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The texts of a split and their labels, which are read where the split is of use."""

    items: Sequence[Mapping[str, Any]]
    read_labels: Callable[[], Sequence[int] | np.ndarray]

    @functools.cached_property
    def labels(self) -> Int32[np.ndarray, " texts"]:
        return np.array(self.read_labels(), np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """What a source holds; `state` changes when that does, `broken` says what is wrong with what is left out."""

    classes: tuple[str, ...]
    splits: Mapping[str, Part]
    state: str
    broken: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Labelled texts that can be read; which of them a source holds out, where it says so."""

    documents: Documents
    classes: tuple[str, ...]
    labels: Int32[np.ndarray, " texts"]
    held_out: np.ndarray | None

    @property
    def fingerprint(self) -> str:
        """Of classes, labels and sides."""
        sides = b"" if self.held_out is None else self.held_out.tobytes()
        known = repr(self.classes).encode() + self.labels.astype("<i4").tobytes() + sides
        return hashlib.sha256(known).hexdigest()[:32]


@dataclasses.dataclass(frozen=True, eq=False)
class TextFiles(Sequence):
    """Files, each a text."""

    folder: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, str]:
        return {"text": read_text(self.folder / self.names[index])}


def _folders(folder: Path) -> Opened:
    classes, splits = class_folders(folder, Wanted((".txt",), "text"))
    states = [(split, name, *state_of(files.folder / name)) for split, files in splits.items() for name in files.names]
    parts = {split: Part(TextFiles(*files[:2]), lambda files=files: files.labels) for split, files in splits.items()}
    return Opened(classes, parts, f"texts {folder.resolve()}{states}")


def _table(source: str, features: tuple[str, str], broken: Broken, say: Callable[[str], None]) -> Opened:
    text, label = features
    rows, state, wrong = open_table(source, Columns(features, "TEXT LABEL", "text", (label,)), broken=broken, say=say)
    names = {row[label] for row in rows}
    classes = tuple(sorted(names, key=int if all(name.isdecimal() for name in names) else None))
    if len(classes) < 2:
        raise DataError(f"{source} holds the one label {classes[0]!r}, and to tell classes apart it takes two")
    return Opened(
        classes, {"train": Part(Column(rows, text), lambda: [classes.index(row[label]) for row in rows])}, state, wrong
    )


def _tfds(name: str, features: tuple[str, str]) -> Opened:
    import tensorflow_datasets as tfds

    text, label = features
    builder = tfds_builder(
        name, features, "a folder, nor a .tsv or .jsonl file", WIKIPEDIA_DUMP, "set --data.features TEXT LABEL"
    )
    if not isinstance(builder.info.features[label], tfds.features.ClassLabel):
        raise DataError(f"the feature `{label}` of the TFDS data set {name!r} is no label of a class")
    splits = {split: tfds_split(builder, split) for split in builder.info.splits}
    return Opened(
        tuple(builder.info.features[label].names),
        {
            split: Part(Column(items, text), lambda items=items: [items[n][label] for n in range(len(items))])
            for split, items in splits.items()
        },
        f"{builder.data_dir} {features} {[shard_states(builder, split) for split in splits]}",
    )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedLabelled(PreparedText):
    """Labelled texts made ready; `labels` has the class of each document of the corpus."""

    labels: Int32[np.ndarray, " texts"]

    def training(self, form: TextForm, seed: int) -> "LabelledExamples":
        """Raises `DataError` where the source has nothing to train on."""
        if not len(self.training_items):
            raise DataError("the source has no split `train`: it is there to evaluate on alone")
        return super().training(form, seed)

    def examples(self, items: np.ndarray, form: TextForm, seed: int) -> "LabelledExamples":
        return LabelledExamples(self.corpus, items, self.labels[items], form=form, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledExamples(Examples):
    """Examples from labelled documents of a corpus; an item is a document. An example, int32:

        input_ids, attention_mask [length]: the text as the tokenizer frames a text, cut where it is longer.
        labels []: its class.

    Attributes:
        texts: the documents to take.
        labels: the class of each.

    Raises:
        DataError: there is no text, no token to pad with, or no room for a token.
    """

    corpus: Corpus
    texts: Int64[np.ndarray, " texts"]
    labels: Int32[np.ndarray, " texts"]

    def __post_init__(self) -> None:
        if self.corpus.vocabulary.pad is None:
            raise DataError("the tokenizer has no pad token, with which short texts are filled up: take one that has")
        if self.form.length <= self.corpus.vocabulary.framing.count:
            raise DataError(f"length={self.form.length} has no room for a text and what stands around it")
        super().__post_init__()

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, " texts"]:
        begins, ends = self.corpus.spans(self.texts)
        return ends - begins + self.corpus.vocabulary.framing.count

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: TextForm) -> Batch:
        vocabulary, texts = self.corpus.vocabulary, self.texts[items]
        framing = vocabulary.framing
        input_ids = self.corpus.rows(texts, form.length, framing.begin, framing.end, vocabulary.pad)
        mask = (np.arange(form.length) < self.sizes[items][:, None]).astype(np.int32)
        return {"input_ids": input_ids, "attention_mask": mask, "labels": self.labels[items]}
