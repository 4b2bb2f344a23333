"""Questions with contexts in which their answers stand. Read from SQuAD's JSON, from JSON lines or from TFDS.

Rajpurkar et al., "SQuAD", 2016, arXiv 1606.05250; Rajpurkar, Jia, Liang, "Know What You Don't Know", 2018, arXiv 1806.03822.
Windows of a long context: Devlin et al., 2018, arXiv 1810.04805, the released `run_squad.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int64

from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import SpanForm
from data.ragged import IGNORED, stacked
from data.text.annotated.rows import (
    Annotated,
    Opened,
    Parts,
    Raw,
    Row,
    documents,
    json_of,
    table_rows,
    text_of,
    whole_number,
)
from data.text.corpus import Corpus
from data.text.documents import string
from data.text.source import PreparedText
from data.text.strides import Window, contexts

NO_ANSWER = -1
"""The first and last token of an answer that is not in the context."""


def squad_rows(file: Path) -> Iterator[Raw]:
    """The questions of a file as SQuAD is published."""
    try:
        articles = json_of(file)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield f"{file}, question {question.get('id')}", {"context": paragraph["context"], **question}
    except DataError as error:
        yield str(error)
    except (TypeError, KeyError) as error:
        yield f"{file} is not written as SQuAD's files are, but has no {error}: give data, paragraphs and qas, or a .jsonl"


@dataclasses.dataclass(frozen=True)
class Question(Row):
    """A question about `text`, the context.

    Attributes:
        answers: right ones, each with its first character's place; none where the context does not answer it.
    """

    question: str
    answers: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Questions(Annotated):
    """Where questions, contexts and answers come from; settings beside these are those of `Text`.

    All questions about a context are on one side.

    Attributes:
        source: a `.json` as SQuAD is published, a `.jsonl`, a folder of them, or a TFDS name such as `squad/v1.1`.
        features: names of question, context and answers; these are `{"text": […], "answer_start": […]}` or a list of
            `{"text": …, "answer_start": …}`, without any where the context does not answer the question.
    """

    documents: ClassVar[str] = "questions"
    forms: ClassVar[type[SpanForm]] = SpanForm
    readers: ClassVar[Mapping[str, Callable[[Path], Iterator[Raw]]]] = {".jsonl": table_rows, ".json": squad_rows}
    row: ClassVar[str] = "question"
    columns: ClassVar[str] = "QUESTION CONTEXT ANSWERS"
    places: ClassVar[bool] = True

    features: tuple[str, str, str] = ("question", "context", "answers")

    def parsed(self, raw: Mapping[str, Any], name: str, classes: tuple[str, ...]) -> Question:
        question, context = (text_of(raw, feature) for feature in self.features[:2])
        return Question(name, context, question, tuple(_answers(raw[self.features[2]], context)))

    def parts(self, opened: Opened, learned: Int64[np.ndarray, " rows"]) -> Parts:
        """The contexts, each once, and the questions; and which context each question is about."""
        numbers = {context: number for number, context in enumerate(dict.fromkeys(row.text for row in opened.rows))}
        context_of = np.array([numbers[row.text] for row in opened.rows])
        texts = list(numbers), [row.question for row in opened.rows]
        learned = np.concatenate([np.unique(context_of[learned]), learned + len(numbers)])
        return Parts(tuple(documents(part, self.source) for part in texts), learned, context_of)

    def made(
        self, opened: Opened, about: np.ndarray, corpora: Sequence[Corpus], common: dict[str, Any]
    ) -> "PreparedQuestions":
        contexts, questions = corpora
        common["amounts"] = {"contexts": contexts.counts["documents"], **common["amounts"]}
        answers = answers_of(contexts, about, opened.rows)
        return PreparedQuestions(**common, questions=questions, context_of=about, answers=answers, rows=opened.rows)

    def blank(self, form: SpanForm) -> Batch:
        ids, place = np.zeros(form.length, np.int32), np.zeros((), np.int32)
        inputs = {name: ids for name in ("input_ids", "attention_mask", "token_type_ids")}
        return {**inputs, "start_positions": place, "end_positions": place}


def _answers(value: Any, context: str) -> Iterator[tuple[str, int]]:
    """Each answer with its place, which is checked."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
    elif isinstance(value, Sequence) and all(isinstance(answer, Mapping) for answer in value):
        texts, starts = ([answer.get(name) for answer in value] for name in ("text", "answer_start"))
    else:
        texts = starts = None
    if (
        not isinstance(texts, Sequence | np.ndarray)
        or not isinstance(starts, Sequence | np.ndarray)
        or len(texts) != len(starts)
    ):
        raise DataError(f"the answers are {value!r:.60}, expected a text and an answer_start of each")
    for text, start in zip(texts, starts, strict=True):
        place = whole_number(start)
        if not isinstance(text, str | bytes) or not string(text).strip() or place is None:
            raise DataError(
                f"the answer {text!r:.60} at {start!r} is none: expected a text and the place of its first character"
            )
        text, there = string(text), context[place : place + len(text)]
        if there != text:
            raise DataError(
                f"the answer {text!r:.60} does not stand at character {place} of the context, where {there!r:.60} does"
            )
        yield text, place


def answers_of(corpus: Corpus, context_of: Int64[np.ndarray, " questions"], rows: Sequence[Question]) -> np.ndarray:
    """`[questions, 2]`: the first and the last token, in its context, of the first answer; `NO_ANSWER` where there is none,
    `IGNORED` where the tokenizer leaves nothing of it."""
    found = np.full((len(rows), 2), NO_ANSWER, np.int64)
    for number, (row, begin, end) in enumerate(zip(rows, *corpus.spans(context_of), strict=True)):
        if row.answers:
            text, place = row.answers[0]
            begins, ends = corpus.places[begin:end].T
            first, last = np.searchsorted(ends, place, "right"), np.searchsorted(begins, place + len(text), "left") - 1
            found[number] = (first, last) if first <= last else IGNORED
    return found


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedQuestions(PreparedText):
    """Questions made ready; `corpus` has the contexts.

    Attributes:
        questions: their corpus.
        context_of: which context each is about.
        answers: first and last token of each answer in its context.
        rows: the questions as they were read.
    """

    questions: Corpus
    context_of: Int64[np.ndarray, " questions"]
    answers: Int64[np.ndarray, "questions 2"]
    rows: Sequence[Question]

    def examples(self, items: np.ndarray, form: SpanForm, seed: int) -> "QuestionExamples":
        framing = self.corpus.vocabulary.framing
        self.corpus.vocabulary.check_room(form.length - framing.pair_count - form.question)
        if (self.answers == NO_ANSWER).any() and not framing.pair_begin:
            raise DataError(
                "some contexts do not answer their question, which the token that begins a text stands for, and the tokenizer"
                " puts none there: take another, or leave these questions out"
            )
        parts = self.corpus, self.questions, self.context_of, self.answers
        return QuestionExamples(*parts, self.windows(items, form), self.rows, form=form, seed=seed)

    def training(self, form: SpanForm, seed: int) -> "QuestionExamples":
        """Without the texts, which are of use to metrics alone."""
        return dataclasses.replace(super().training(form, seed), rows=())

    def windows(self, items: np.ndarray, form: SpanForm) -> Int64[np.ndarray, "windows 3"]:
        """Question, first token in its context and the one behind the last, of each window."""
        lengths = np.subtract(*self.questions.spans(items)[::-1])
        rooms = form.length - self.corpus.vocabulary.framing.pair_count - np.minimum(lengths, form.question)
        sizes = np.subtract(*self.corpus.spans(self.context_of[items])[::-1])
        found = []
        for item, room, size in zip(items.tolist(), rooms.tolist(), sizes.tolist(), strict=True):
            step = room - (form.stride if form.stride < room else room // 2)
            last = -(-max(0, size - room) // step)
            found += [(item, n * step, min(size, n * step + room)) for n in range(last + 1)]
        return np.array(found, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class QuestionExamples(Examples):
    """Examples from questions; an item is a question with a window of its context. An example, int32:

        input_ids, attention_mask, token_type_ids [length]: the question and the window as the tokenizer frames a pair.
        start_positions, end_positions []: the places of the answer's first and last token; 0, of the token that begins the
            text, where the window does not hold all of it.

    Attributes:
        windows: question, first token of the context and the one behind the last, of each item.
        rows: the questions as they were read, where somebody needs their texts.
    """

    contexts: Corpus
    questions: Corpus
    context_of: Int64[np.ndarray, " questions"]
    answers: Int64[np.ndarray, "questions 2"]
    windows: Int64[np.ndarray, "windows 3"]
    rows: Sequence[Question] = ()

    def __len__(self) -> int:
        return len(self.windows)

    @functools.cached_property
    def sizes(self) -> Int64[np.ndarray, " windows"]:
        asked = np.minimum(np.subtract(*self.questions.spans(self.windows[:, 0])[::-1]), self.form.question)
        return asked + self.windows[:, 2] - self.windows[:, 1] + self.contexts.vocabulary.framing.pair_count

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: SpanForm) -> Batch:
        framing, rows, types, places = self.contexts.vocabulary.framing, [], [], []
        for item in items:
            question, begin, end = self.windows[item]
            asked, context = self._tokens(question, begin, end)
            rows.append(np.array(framing.pair(asked, context), np.int32))
            types.append(np.array(framing.pair_types(len(asked), len(context)), np.int32))
            first, last = self.answers[question]
            before = len(framing.pair_begin) + len(asked) + len(framing.between)
            if first == IGNORED or not (framing.pair_begin or begin <= first <= last < end):
                places.append((IGNORED, IGNORED))
            elif begin <= first <= last < end:
                places.append((before + first - begin, before + last - begin))
            else:
                places.append((0, 0))
        starts, ends = np.array(places, np.int32).T
        return {
            "input_ids": stacked(rows, form.length, self.contexts.vocabulary.pad),
            "attention_mask": (np.arange(form.length) < self.sizes[items][:, None]).astype(np.int32),
            "token_type_ids": stacked(types, form.length, 0),
            "start_positions": starts,
            "end_positions": ends,
        }

    def _tokens(self, question: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a question, cut where it is long, and of a window of its context."""
        first, last = self.questions.spans(np.array([question]))[:, 0]
        asked = self.questions.tokens[first : min(last, first + self.form.question)]
        start = self.contexts.spans(self.context_of[[question]])[0, 0]
        return asked, self.contexts.tokens[start + begin : start + end]

    def by_question(
        self,
        items: Int64[np.ndarray, " rows"],
        start_logits: Float[np.ndarray, "rows length"],
        end_logits: Float[np.ndarray, "rows length"],
    ) -> Iterator[tuple[Question, list[Window], list[tuple[np.ndarray, np.ndarray]]]]:
        """Each question all of whose windows are there, with these and their logits.

        Args:
            items: windows, in order.
        """
        questions, sizes = self.windows[items, 0], self.sizes[items]
        whole = np.bincount(self.windows[:, 0])
        for question in np.unique(questions).tolist():
            rows = np.flatnonzero(questions == question)
            if len(rows) == whole[question]:
                logits = [(start_logits[row][: sizes[row]], end_logits[row][: sizes[row]]) for row in rows]
                yield self.rows[question], self.shown(question, self.windows[items[rows], 1:]), logits

    def shown(self, question: int, ranges: Int64[np.ndarray, "windows 2"]) -> list[Window]:
        """The windows of a context. A token stands for its word, as for a pipeline."""
        framing, vocabulary = self.contexts.vocabulary.framing, self.contexts.vocabulary
        start, end = self.contexts.spans(self.context_of[[question]])[:, 0]
        words = np.cumsum(vocabulary.starts_word[self.contexts.tokens[start:end]])
        begins, ends = self.contexts.places[start:end].T
        first, last = (np.searchsorted(words, words, side) for side in ("left", "right"))
        spans = np.stack([begins[first], ends[last - 1]], axis=1) if len(words) else np.zeros((0, 2), int)
        around = np.full((len(ranges), end - start), -1.0)
        for row, (begin, stop) in zip(around, ranges, strict=True):
            row[begin:stop] = contexts(stop - begin)
        fullest, found = around.argmax(axis=0), []
        before = len(framing.pair_begin) + len(self._tokens(question, 0, 0)[0]) + len(framing.between)
        for number, (begin, stop) in enumerate(ranges.tolist()):
            length = before + stop - begin + len(framing.pair_end)
            place = np.arange(before, before + stop - begin)
            inside, full, characters = np.zeros(length, bool), np.zeros(length, bool), np.zeros((length, 2), int)
            inside[place], full[place], characters[place] = True, fullest[begin:stop] == number, spans[begin:stop]
            found.append(Window(inside, characters, full))
        return found
