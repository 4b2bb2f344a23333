"""Texts, or pairs of texts, with a label each: a class, or a number to be predicted."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer

from data.class_folders import sides
from data.contents import Joined, Progress
from data.contract import Batch, Config, Examples
from data.errors import DataError
from data.forms import TextForm
from data.ragged import stacked
from data.splits import split_by_content
from data.survey import Survey, counted, text_counts
from data.text.corpus import Corpus
from data.text.documents import Documents, Look, joined
from data.text.labelled_tables import Labels, Named, open_labelled
from data.text.source import PreparedText, Text
from data.text.tables import Column
from data.text.tokenizers import Vocabulary, vocabulary

NUMBER = ("LABEL_0",)
"""What the one output of a regression is called, as in `transformers`."""


@dataclasses.dataclass(frozen=True)
class LabelledText(Text):
    """Where texts and their labels come from; settings beside these are those of `Text`.

    The names of the labels are those of folders, of a table's column, sorted (whole numbers by their value), or of TFDS.
    A tokenizer without a pad token pads with what ends a text.

    Attributes:
        source: a folder with a folder of `.txt` files for each class, or with folders `train` and `validation` (`val`) of
            those; a `.tsv` or `.jsonl` file, or a folder of them; or a TFDS name such as `glue/sst2`.
        features: names of text and label, or of two texts and the label: of columns (the first line of a `.tsv` has the names),
            of keys, of features.
        numbers: labels are numbers to be predicted, and no classes.
        held_out_split: the split that is held out; where empty, `validation` if the source has one.
    """

    documents: ClassVar[str] = "texts"

    source: str = ""
    features: tuple[str, ...] = ("text", "label")
    numbers: bool = False
    held_out_split: str = ""

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedLabelled":
        """Texts → tokenizer → tokenised corpus; what is there already is taken."""
        say(f"opening {self.source}")
        texts = self._open(Look(cache=self.cache_folder, broken=self.broken, say=say))
        training, held_out = self._split(texts)
        learned = training if len(training) else held_out
        both = [learned + number * len(texts.labels) for number in range(len(texts.sides))]
        tokenizer = self.prepare_tokenizer(joined(*texts.sides), np.concatenate(both), size, needs, say)
        say(f"tokenising {len(texts.labels):,} {'texts' if len(texts.sides) == 1 else 'pairs of texts'}")
        roles = padded(tokenizer, self.roles)
        corpora = [self.tokenised(side, tokenizer, roles=roles) for side in texts.sides]
        return PreparedLabelled(
            dataclasses.replace(corpora[0].vocabulary, labels=texts.classes or NUMBER),
            " ".join([*(corpus.fingerprint for corpus in corpora), texts.fingerprint]),
            training,
            held_out,
            amounts={"tokens": sum(len(corpus.tokens) for corpus in corpora)},
            tokenizer=tokenizer,
            corpus=corpora[0],
            trained_here=self.trains_tokenizer or self.trained_here,
            given=texts.held_out is not None,
            labels=texts.labels,
            second=corpora[1] if len(corpora) == 2 else None,
        )

    def survey(self, progress: Progress) -> Survey:
        texts = self._open(Look(cache=self.cache_folder, broken="skip", progress=progress, again=True))
        training, held_out = self._split(texts)
        labels = texts.labels
        if self.numbers:
            about = {"labels": f"from {labels.min():g} to {labels.max():g}, {labels.mean():g} in the mean"}
        else:
            counts = np.bincount(labels, minlength=len(texts.classes))
            about = {"classes": f"{len(counts):,}, of {counts.min():,} to {counts.max():,} texts"}
        counts = counted("texts", texts.sides[0].text_hashes, training, held_out)
        return Survey({**counts, **text_counts(texts.sizes, held_out, "texts"), **about}, texts.sides[0].broken)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Vocabulary:
        labels = NUMBER if self.numbers else ("LABEL_0", "LABEL_1")
        return dataclasses.replace(super().blank_vocabulary(size, needs), labels=labels)

    def blank(self, form: TextForm) -> Batch:
        ids, label = np.zeros(form.length, np.int32), np.zeros((), np.float32 if self.numbers else np.int32)
        types = {"token_type_ids": ids} if len(self.features) == 3 else {}
        return {"input_ids": ids, "attention_mask": ids, **types, "labels": label}

    def _open(self, look: Look) -> "Texts":
        if len(self.features) not in (2, 3):
            raise DataError(f"features={self.features}: expected the names of a text, or of two, and of the label")
        *columns, label = self.features
        opened = open_labelled(self.source, Named(tuple(columns), label, self.numbers), look.broken, look.say)
        training, held_out = sides(opened.splits, self.held_out_split, self.source)
        parts = [part for part in (training, held_out) if part is not None]
        rows = parts[0].rows if len(parts) == 1 else Joined(*(part.rows for part in parts))
        labels = np.concatenate([part.labels for part in parts])
        if opened.classes and labels.min() < 0:
            raise DataError(
                f"text {labels.argmin()} of {self.source} has the label {labels.min()}: this split keeps its labels to itself,"
                " set --data.held-out-split to another"
            )
        texts = {column: Column(rows, column) for column in columns}
        documents, kept = look.at(texts, self.source, row="text", state=f"{opened.state}{self.held_out_split}")
        for side in documents:
            side.broken = (*opened.broken, *side.broken)
        first = 0 if training is None else len(training.labels)
        return Texts(documents, opened.classes, labels[kept], None if held_out is None else kept >= first)

    def _split(self, texts: "Texts") -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " held_out"]]:
        if texts.held_out is not None:
            return np.flatnonzero(~texts.held_out), np.flatnonzero(texts.held_out)
        hashes = texts.sides[0].text_hashes
        return split_by_content(hashes, texts.sizes, self.held_out, self.split_seed, f"{self.source} holds", "text")


def padded(tokenizer: Tokenizer, roles: Mapping[str, str]) -> dict[str, str]:
    """{role: token}, what ends a text for padding, too, where the tokenizer has nothing else for it."""
    known = vocabulary(tokenizer, roles)
    if known.pad is None and known.eos is not None:
        return {**roles, "pad": known.tokens[known.eos]}
    return dict(roles)


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Labelled texts that can be read; which of them a source holds out, where it says so.

    Attributes:
        sides: the texts; of pairs the first ones and the second ones.
    """

    sides: tuple[Documents, ...]
    classes: tuple[str, ...]
    labels: Labels
    held_out: np.ndarray | None

    @property
    def sizes(self) -> Int64[np.ndarray, " texts"]:
        return sum(side.text_sizes for side in self.sides)

    @property
    def fingerprint(self) -> str:
        """Of classes, labels and sides."""
        sides = b"" if self.held_out is None else self.held_out.tobytes()
        known = repr(self.classes).encode() + self.labels.astype(f"<{self.labels.dtype.kind}4").tobytes() + sides
        return hashlib.sha256(known).hexdigest()[:32]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedLabelled(PreparedText):
    """Labelled texts made ready; `labels` has the class, or the number, of each document of the corpus.

    Attributes:
        second: the second text of each pair, where there are pairs.
    """

    labels: Labels
    second: Corpus | None = None

    def examples(self, items: np.ndarray, form: TextForm, seed: int) -> "LabelledExamples":
        return LabelledExamples(self.corpus, items, self.labels[items], self.second, form=form, seed=seed)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config, also with the problem that the labels pose, and with what texts are padded with."""
        numbers, vocabulary = np.issubdtype(self.labels.dtype, np.floating), self.vocabulary
        changes: dict[str, Any] = {"problem_type": "regression"} if numbers else {}
        if not numbers and config.problem_type == "regression":
            changes["problem_type"] = None
        if config.pad_token_id is None:
            changes["pad_token_id"] = vocabulary.pad
        if (
            start is None and config.decoder_start_token_id is not None
        ):  # the decoder reads the text that the encoder reads
            start = vocabulary.eos
        return super().adapt(dataclasses.replace(config, **changes), start)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledExamples(Examples):
    """Examples from labelled documents of a corpus; an item is a document, or a pair of them. An example, int32:

        input_ids, attention_mask [length]: the text as the tokenizer frames a text, cut where it is longer; of a pair, the
            longer of the two is cut first.
        token_type_ids [length]: of a pair, which of the two a token belongs to, by the tokenizer's frame.
        labels []: its class; float32, where labels are numbers.

    Attributes:
        texts: the documents to take.
        labels: the class, or the number, of each.
        second: the second text of each pair.

    Raises:
        DataError: there is no text, no token to pad with, or no room for a token.
    """

    corpus: Corpus
    texts: Int64[np.ndarray, " texts"]
    labels: Labels
    second: Corpus | None = None

    def __post_init__(self) -> None:
        self.corpus.vocabulary.check_room(self.form.length - self._framed - (self.second is not None))
        super().__post_init__()

    @property
    def _framed(self) -> int:
        """Special tokens around a text, or a pair."""
        framing = self.corpus.vocabulary.framing
        return framing.count if self.second is None else framing.pair_count

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, " texts"]:
        corpora = [self.corpus] if self.second is None else [self.corpus, self.second]
        lengths = (np.subtract(*corpus.spans(self.texts)[::-1]) for corpus in corpora)
        return sum(lengths) + self._framed

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: TextForm) -> Batch:
        vocabulary, texts = self.corpus.vocabulary, self.texts[items]
        framing, found = vocabulary.framing, {}
        if self.second is None:
            found["input_ids"] = self.corpus.rows(texts, form.length, framing.begin, framing.end, vocabulary.pad)
        else:
            rows, types = self._pairs(texts, form.length)
            found["input_ids"] = stacked(rows, form.length, vocabulary.pad)
            found["token_type_ids"] = stacked(types, form.length, 0)
        mask = (np.arange(form.length) < self.sizes[items][:, None]).astype(np.int32)
        return {**found, "attention_mask": mask, "labels": self.labels[items]}

    def _pairs(self, texts: Int64[np.ndarray, " batch"], length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Ids of pairs of texts in their frame, and their token types."""
        framing, rows, types = self.corpus.vocabulary.framing, [], []
        for text in texts:
            one, other = (corpus.tokens[slice(*corpus.spans(text))] for corpus in (self.corpus, self.second))
            kept = both_kept(len(one), len(other), length - framing.pair_count)
            rows.append(np.array(framing.pair(one[: kept[0]], other[: kept[1]]), np.int32))
            types.append(np.array(framing.pair_types(*kept), np.int32))
        return rows, types


def both_kept(first: int, second: int, room: int) -> tuple[int, int]:
    """How much is kept of two texts of so many tokens: the longer one loses tokens first (Devlin et al., 2018, released code).

    The first keeps one more where both are cut and the room is odd.
    """
    if first + second <= room:
        return first, second
    kept = min(first, max(room - second, (room + 1) // 2))
    return kept, room - kept
