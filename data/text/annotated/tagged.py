"""Sentences whose words each have a label: parts of speech, entities. Read from CoNLL columns, JSON lines or TFDS.

The first token of a word has the word's label: Devlin et al., 2018, arXiv 1810.04805, section 5.3. A word's tokens are those that
it has in the sentence, with single spaces between the words.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int32, Int64

from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import TextForm
from data.ragged import IGNORED, stacked
from data.text.annotated.rows import Annotated, Opened, Parts, Raw, Row, table_rows
from data.text.corpus import Corpus
from data.text.documents import string
from data.text.labelled_tables import check_labels
from data.text.source import PreparedText
from data.text.tokenizers import Vocabulary


def column_rows(file: Path) -> Iterator[Raw]:
    """The sentences of a file of columns: a word in a line, its label in the last column, an empty line behind a sentence."""
    words: list[list[str]] = []
    begin, wrong, columns = 0, "", None
    for number, content in enumerate([*file.read_bytes().split(b"\n"), b""], 1):
        try:
            cells = content.decode("utf-8").removeprefix("\ufeff" if number == 1 else "").split()
        except UnicodeDecodeError:
            cells, wrong = (
                ["?", "?"],
                wrong or f"{file}, line {number} is not UTF-8: convert it, for instance with iconv",
            )
        if cells and cells[0] != "-DOCSTART-":
            columns = columns or len(cells)
            begin = begin or number
            words.append(cells)
            if not 1 < len(cells) == columns:
                wrong = wrong or f"{file}, line {number} has {len(cells)} columns, expected {max(2, columns)}"
        elif words:
            row = {"words": [cells[0] for cells in words], "labels": [cells[-1] for cells in words]}
            yield wrong or (f"{file}, line {begin}", row)
            words, begin, wrong = [], 0, ""


@dataclasses.dataclass(frozen=True)
class Sentence(Row):
    """A sentence of words, each with a label."""

    words: tuple[str, ...]
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TaggedText(Annotated):
    """Where sentences and the labels of their words come from; settings beside these are those of `Text`.

    The names of the labels are those of TFDS, or those that occur, sorted. Longer sentences are cut between two words; each word
    is asked once.

    Attributes:
        source: a `.conll` file of columns (the word in the first, its label in the last) or a `.jsonl` file, a folder of them,
            or a TFDS name such as `conll2003`.
        features: names of the words and of their labels, both lists: keys of a `.jsonl`, features.
        label_all: all tokens of a word have its label (`I-` of one that begins with `B-`), and not its first alone.
    """

    documents: ClassVar[str] = "sentences"
    forms: ClassVar[type[TextForm]] = TextForm
    readers: ClassVar[Mapping[str, Callable[[Path], Iterator[Raw]]]] = {".conll": column_rows, ".jsonl": table_rows}
    row: ClassVar[str] = "sentence"
    columns: ClassVar[str] = "WORDS LABELS"
    places: ClassVar[bool] = True

    features: tuple[str, str] = ("words", "labels")
    label_all: bool = False

    def parsed(self, raw: Mapping[str, Any], name: str, classes: tuple[str, ...]) -> Sentence:
        words, labels = (_strings(raw, feature, classes if n else ()) for n, feature in enumerate(self.features))
        if len(words) != len(labels):
            raise DataError(f"{len(words)} words and {len(labels)} labels: expected one for each word")
        return Sentence(name, " ".join(words), words, labels)

    def classes_of(self, features: Mapping[str, Any]) -> tuple[str, ...]:
        names = getattr(getattr(features[self.features[1]], "feature", None), "names", None)
        if names is None:
            raise DataError(f"the feature `{self.features[1]}` of {self.source} is no list of labels of classes")
        return tuple(names)

    def parts(self, opened: Opened, learned: Int64[np.ndarray, " rows"]) -> Parts:
        """The sentences, and the labels that their words may have."""
        return Parts((opened.documents,), learned, opened.classes or labels_of(opened, learned))

    def made(
        self, opened: Opened, about: tuple[str, ...], corpora: Sequence[Corpus], common: dict[str, Any]
    ) -> "PreparedTagged":
        common["vocabulary"] = dataclasses.replace(common["vocabulary"], labels=about)
        common["fingerprint"] += f" {self.label_all}"
        common["amounts"] = {"words": sum(len(row.words) for row in opened.rows), **common["amounts"]}
        return PreparedTagged(**common, sentences=labelled(corpora[0], opened.rows, about, self.label_all))

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Vocabulary:
        return dataclasses.replace(super().blank_vocabulary(size, needs), labels=("LABEL_0", "LABEL_1"))

    def blank(self, form: TextForm) -> Batch:
        ids = np.zeros(form.length, np.int32)
        return {"input_ids": ids, "attention_mask": ids, "labels": ids}


def _strings(raw: Mapping[str, Any], feature: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The words, or the labels, of a row; numbers of TFDS as the names of the classes."""
    values = raw[feature]
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise DataError(f"{feature!r} is {values!r:.60}, expected a list with something in it")
    if classes:
        if min(values) < 0:
            raise DataError(f"{feature!r} has {min(values)}: this split keeps its labels to itself, take another")
        return tuple(classes[value] for value in values)
    for value in values:
        if not isinstance(value, str | bytes) or not string(value).strip():
            raise DataError(f"{feature!r} has {value!r}, expected a word")
    return tuple(string(value) for value in values)


def labels_of(opened: Opened, rows: Int64[np.ndarray, " rows"]) -> tuple[str, ...]:
    """The labels that occur in some rows, sorted.

    Raises:
        DataError: there are no two, two differ in white space alone, or other rows have one that these lack.
    """
    names = sorted({label for row in rows for label in opened.rows[row].labels})
    check_labels(names, opened.source)
    known = set(names)
    for row in opened.rows:
        strange = next((label for label in row.labels if label not in known), None)
        if strange is not None:
            raise DataError(
                f"{row.name} has the label {strange!r}, which no sentence to train on has: {', '.join(names)}"
            )
    return tuple(names)


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """The sentences of a corpus with the labels of their words.

    Attributes:
        labels: of all words, one sentence after the other.
        begins: the first word of each sentence, and the end.
        words: the number in its sentence of the word that each token belongs to.
        first: whether a token is the first of its word.
        asked: the label that is asked of each token, `IGNORED` where none is.
    """

    labels: Int32[np.ndarray, " words"]
    begins: Int64[np.ndarray, " begins"]
    words: Int32[np.ndarray, " tokens"]
    first: Bool[np.ndarray, " tokens"]
    asked: Int32[np.ndarray, " tokens"]


def labelled(corpus: Corpus, rows: Sequence[Sentence], classes: tuple[str, ...], label_all: bool) -> Labelled:
    """The sentences of which the corpus has the texts."""
    numbers = {name: number for number, name in enumerate(classes)}
    inside = np.array([numbers.get(f"I-{name[2:]}", n) if name.startswith("B-") else n for name, n in numbers.items()])
    labels = np.array([numbers[label] for row in rows for label in row.labels], np.int32)
    begins = np.cumsum([0, *(len(row.words) for row in rows)])
    spans = corpus.spans(np.arange(len(rows)))
    words = np.empty(len(corpus.tokens), np.int32)
    for row, begin, end in zip(rows, *spans, strict=True):
        starts = np.cumsum([0, *(len(word) + 1 for word in row.words[:-1])])
        last = corpus.places[begin:end, 1] - 1  # a token may begin with the space before its word
        words[begin:end] = np.maximum(np.searchsorted(starts, last, side="right") - 1, 0)
    place = np.repeat(begins[:-1], spans[1] - spans[0]) + words
    first = np.append(True, place[1:] != place[:-1])[: len(place)]
    own = labels[place]
    return Labelled(
        labels, begins, words, first, np.where(first, own, inside[own] if label_all else IGNORED).astype(np.int32)
    )


def windows_of(corpus: Corpus, first: Bool[np.ndarray, " tokens"], sentences: np.ndarray, room: int) -> np.ndarray:
    """`[windows, 3]`: sentence, first token and the one behind the last, of windows of at most `room` tokens, which together
    hold each sentence once. One ends between two words, where a word has room."""
    windows = []
    for sentence, begin, end in zip(sentences.tolist(), *corpus.spans(sentences).tolist(), strict=True):
        while end - begin > room:
            cuts = np.flatnonzero(first[begin + 1 : begin + room + 1])
            cut = begin + (cuts[-1] + 1 if len(cuts) else room)
            windows.append((sentence, begin, cut))
            begin = cut
        windows.append((sentence, begin, end))
    return np.array(windows, np.int64)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedTagged(PreparedText):
    """Tagged sentences made ready; document *i* of the corpus is sentence *i*."""

    sentences: Labelled

    def examples(self, items: np.ndarray, form: TextForm, seed: int) -> "TaggedExamples":
        room = form.length - self.corpus.vocabulary.framing.count
        self.corpus.vocabulary.check_room(room)
        windows = windows_of(self.corpus, self.sentences.first, items, room)
        return TaggedExamples(self.corpus, self.sentences, self.vocabulary.labels, windows, form=form, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class TaggedExamples(Examples):
    """Examples from tagged sentences of a corpus; an item is a sentence, or a window of one that is longer. An example, int32:

        input_ids, attention_mask [length]: the words as the tokenizer frames a text.
        labels [length]: what is asked of each token, `IGNORED` where nothing is.

    Attributes:
        names: of the labels.
        windows: sentence, first token and the one behind the last, of each item.
    """

    corpus: Corpus
    sentences: Labelled
    names: tuple[str, ...]
    windows: Int64[np.ndarray, "windows 3"]

    def __len__(self) -> int:
        return len(self.windows)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, " windows"]:
        return self.windows[:, 2] - self.windows[:, 1] + self.corpus.vocabulary.framing.count

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: TextForm) -> Batch:
        vocabulary, framing = self.corpus.vocabulary, self.corpus.vocabulary.framing
        before, behind = (np.full(len(side), IGNORED, np.int32) for side in (framing.begin, framing.end))
        spans = [slice(begin, end) for _, begin, end in self.windows[items].tolist()]
        rows = [np.array(framing.text(self.corpus.tokens[span]), np.int32) for span in spans]
        labels = [np.concatenate([before, self.sentences.asked[span], behind]) for span in spans]
        return {
            "input_ids": stacked(rows, form.length, vocabulary.pad),
            "attention_mask": (np.arange(form.length) < self.sizes[items][:, None]).astype(np.int32),
            "labels": stacked(labels, form.length, IGNORED),
        }

    def by_sentence(
        self, items: Int64[np.ndarray, " rows"], guesses: Int32[np.ndarray, "rows length"]
    ) -> Iterator[tuple[Int32[np.ndarray, " words"], Int32[np.ndarray, " words"]]]:
        """The labels and the guesses of the words of each sentence all of whose windows are there.

        Args:
            items: windows, in order.
            guesses: a label for each of their tokens; that of a word is its first token's, `IGNORED` for one without a token.
        """
        labels, begins, before = self.sentences.labels, self.sentences.begins, len(self.corpus.vocabulary.framing.begin)
        whole = np.bincount(self.windows[:, 0]) == np.bincount(
            self.windows[items, 0], minlength=self.windows[:, 0].max() + 1
        )
        found: dict[int, np.ndarray] = {}
        for (sentence, begin, end), row in zip(self.windows[items].tolist(), guesses, strict=True):
            if whole[sentence]:
                first = np.flatnonzero(self.sentences.first[begin:end])
                size = begins[sentence + 1] - begins[sentence]
                words = found.setdefault(sentence, np.full(size, IGNORED, np.int32))
                words[self.sentences.words[begin:end][first]] = row[before + first]
        return ((labels[begins[n] : begins[n + 1]], words) for n, words in found.items())
