"""Texts with several that may follow, of which one is right. Read from tables shaped as SWAG's or from TFDS.

Zellers et al., "SWAG", 2018, arXiv 1808.05326. Each choice is the second text of a pair: Devlin et al., 2018, arXiv 1810.04805,
section 4.4.
"""

import csv
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32, Int64

from data.contract import Batch, Config, Examples
from data.errors import DataError
from data.forms import ChoiceForm
from data.ragged import stacked
from data.text.annotated.rows import Annotated, Opened, Parts, Raw, Row, documents, table_rows, text_of, whole_number
from data.text.corpus import Corpus
from data.text.labelled import both_kept
from data.text.source import PreparedText
from data.text.tokenizers import Vocabulary


def csv_rows(file: Path) -> Iterator[Raw]:
    """The rows of a `.csv` with quotes, whose first line names the columns."""
    with open(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, restkey="")
        try:
            for row in reader:
                name = f"{file}, line {reader.line_num}"
                count = len(reader.fieldnames or ())
                if "" in row and isinstance(row[""], list):
                    yield f"{name} has {count + len(row[''])} columns, and the first line names {count}"
                else:
                    yield name, row
        except (csv.Error, UnicodeDecodeError) as error:
            yield f"{file}, line {reader.line_num + 1} cannot be read: {error}"


@dataclasses.dataclass(frozen=True)
class Choice(Row):
    """`text` and what may follow it; `label` is the number of the one that does."""

    endings: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class Choices(Annotated):
    """Where choices come from; settings beside these are those of `Text`.

    Attributes:
        source: a `.csv` (as SWAG is published) or `.jsonl`, a folder of them, or a TFDS name such as `hellaswag`.
        features: names of the text, of the choices (a list; or, of columns, what their names begin with: `ending0`, …) and of the
            number of the right one.
        begin: name of what all choices begin with, as SWAG's `sent2`.
    """

    documents: ClassVar[str] = "choices"
    forms: ClassVar[type[ChoiceForm]] = ChoiceForm
    readers: ClassVar[Mapping[str, Callable[[Path], Iterator[Raw]]]] = {".csv": csv_rows, ".jsonl": table_rows}
    row: ClassVar[str] = "choice"
    columns: ClassVar[str] = "TEXT ENDINGS LABEL"

    features: tuple[str, str, str] = ("context", "endings", "label")
    begin: str = ""

    def parsed(self, raw: Mapping[str, Any], name: str, classes: tuple[str, ...]) -> Choice:
        text, (_, ending, label) = text_of(raw, self.features[0]), self.features
        endings = raw[ending] if ending in raw else _numbered(raw, ending)
        if isinstance(endings, str | bytes) or not isinstance(endings, Sequence | np.ndarray) or len(endings) < 2:
            raise DataError(f"{ending!r} is {endings!r:.60}, expected a list of two or more")
        begin = f"{text_of(raw, self.begin)} " if self.begin else ""
        texts = tuple(begin + text_of({f"{ending} {n}": one}, f"{ending} {n}") for n, one in enumerate(endings))
        right = whole_number(raw[label])
        if right is None or not 0 <= right < len(texts):
            raise DataError(
                f"{label!r} is {raw[label]!r}, expected the number of one of {len(texts)} choices, from 0 on"
            )
        return Choice(name, text, texts, right)

    def missing(self, content: Mapping[str, Any]) -> list[str]:
        begin = [self.begin] if self.begin and self.begin not in content else []
        numbered = {self.features[1]} if f"{self.features[1]}0" in content else set()
        return [name for name in super().missing(content) if name not in numbered] + begin

    def parts(self, opened: Opened, learned: Int64[np.ndarray, " rows"]) -> Parts:
        """The texts, and the choices, as many of each."""
        count = len(opened.rows[0].endings)
        strange = next((row for row in opened.rows if len(row.endings) != count), None)
        if strange is not None:
            raise DataError(
                f"{strange.name} has {len(strange.endings)} choices, and the first row {count}: all need as many"
            )
        endings = documents([ending for row in opened.rows for ending in row.endings], self.source)
        behind = len(opened.rows) + (learned[:, None] * count + np.arange(count)).ravel()
        return Parts((opened.documents, endings), np.concatenate([learned, behind]), count)

    def made(self, opened: Opened, about: int, corpora: Sequence[Corpus], common: dict[str, Any]) -> "PreparedChoices":
        names = tuple(f"choice {n}" for n in range(about))
        common["vocabulary"] = dataclasses.replace(common["vocabulary"], labels=names)
        labels = np.array([row.label for row in opened.rows], np.int32)
        return PreparedChoices(**common, endings=corpora[1], labels=labels)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Vocabulary:
        return dataclasses.replace(super().blank_vocabulary(size, needs), labels=("choice 0", "choice 1"))

    def blank(self, form: ChoiceForm) -> Batch:
        ids = np.zeros((form.choices, form.length), np.int32)
        inputs = {name: ids for name in ("input_ids", "attention_mask", "token_type_ids")}
        return {**inputs, "labels": np.zeros((), np.int32)}


def _numbered(raw: Mapping[str, Any], begin: str) -> list[Any]:
    """The columns `ending0`, `ending1`, …"""
    found: list[Any] = []
    while f"{begin}{len(found)}" in raw:
        found.append(raw[f"{begin}{len(found)}"])
    return found


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedChoices(PreparedText):
    """Choices made ready; `corpus` has the texts.

    Attributes:
        endings: the choices, those of one text behind those of another.
        labels: the number of the right one.
    """

    endings: Corpus
    labels: Int32[np.ndarray, " texts"]

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """As for any text: what is chosen is no label of the model's."""
        bare = dataclasses.replace(self, vocabulary=dataclasses.replace(self.vocabulary, labels=()))
        return super(PreparedChoices, bare).adapt(config, start)

    def examples(self, items: np.ndarray, form: ChoiceForm, seed: int) -> "ChoiceExamples":
        choices = len(self.vocabulary.labels)
        if form.choices != choices:
            raise DataError(
                f"the texts have {choices} choices: set --phases.0.form.choices {choices}, not {form.choices}"
            )
        self.corpus.vocabulary.check_room(form.length - self.corpus.vocabulary.framing.pair_count - 1)
        return ChoiceExamples(self.corpus, self.endings, items, self.labels[items], form=form, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class ChoiceExamples(Examples):
    """Examples from texts with choices. An example, int32:

        input_ids, attention_mask, token_type_ids [choices, length]: the text with each of the choices, as the tokenizer frames a
            pair; the longer of the two is cut first.
        labels []: the number of the right one.

    Attributes:
        texts: numbers of the documents to take.
        labels: of each.
    """

    first: Corpus
    second: Corpus
    texts: Int64[np.ndarray, " texts"]
    labels: Int32[np.ndarray, " texts"]

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, " texts"]:
        return self._lengths(self.texts).max(axis=1)

    def _lengths(self, texts: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, "batch choices"]:
        begins, ends = self.second.spans((texts[:, None] * self.form.choices + np.arange(self.form.choices)).ravel())
        firsts = np.subtract(*self.first.spans(texts)[::-1])[:, None]
        return firsts + (ends - begins).reshape(len(texts), -1) + self.first.vocabulary.framing.pair_count

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: ChoiceForm) -> Batch:
        framing, rows, types = self.first.vocabulary.framing, [], []
        texts, choices = self.texts[items], np.arange(form.choices)
        for text in texts:
            one = self.first.tokens[slice(*self.first.spans(text))]
            for begin, end in self.second.spans(text * form.choices + choices).T:
                kept = both_kept(len(one), end - begin, form.length - framing.pair_count)
                rows.append(
                    np.array(framing.pair(one[: kept[0]], self.second.tokens[begin : begin + kept[1]]), np.int32)
                )
                types.append(np.array(framing.pair_types(*kept), np.int32))
        mask = np.arange(form.length) < self._lengths(texts)[..., None]
        shape = (len(texts), form.choices, form.length)
        return {
            "input_ids": stacked(rows, form.length, self.first.vocabulary.pad).reshape(shape),
            "attention_mask": mask.astype(np.int32),
            "token_type_ids": stacked(types, form.length, 0).reshape(shape),
            "labels": self.labels[items],
        }
