"""`question-answering`: spans of contexts that answer questions."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from tokenizers import Encoding

from data.text.strides import cut, windows_of
from inference import spans
from inference.readers.text import TextReader
from inference.scores import Answer, check_count
from inference.task import Field, Output, Task
from models.config import ModelError

LONGEST_WINDOW, LONGEST_OVERLAP = 384, 128
"""Tokens of a window, and those in common with the next, where nothing is set."""


@dataclasses.dataclass(frozen=True)
class QuestionAnswering(Task):
    """For each (question, context) the likeliest span of the context; a list of them, where `top_k` is more than 1.

    A context that is longer than the model is read in windows. Scores are those of `transformers`' pipeline
    (`inference/spans.py`), or with `ranking` those of the released `run_squad.py`.

    Attributes:
        top_k: answers for each question.
        max_answer_len: most tokens of an answer.
        handle_impossible_answer: whether there may be no answer, which is an empty one.
        align_to_words: whether an answer begins and ends where a word does.
        doc_stride: tokens that two windows have in common; half a window where `None`, and 128 at most.
        max_seq_len: tokens of a window; as many as the model has room for where `None`, and 384 at most.
        max_question_len: tokens of a question, which is cut off behind them; all of it where `None`.
        ranking: compare spans by their probability in their window, or by their logits in all windows.
        null_threshold: with `ranking logits` and impossible answers: by how much the logits of no answer must be above those of
            the best span for the answer to be empty.
    """

    name = "question-answering"
    asks = (Output("start_logits", "tokens"), Output("end_logits", "tokens"))
    fields = (Field("question"), Field("context"))
    what = "pair (question, context)"
    windowed = True
    example = "lacuna predict question-answering QUESTION CONTEXT --model {model}"

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    doc_stride: int | None = None
    max_seq_len: int | None = None
    max_question_len: int | None = None
    ranking: Literal["probability", "logits"] = "probability"
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len"):
            if vars(self)[name] is not None:
                check_count(name, vars(self)[name])
        if self.doc_stride is not None:
            check_count("doc_stride", self.doc_stride, least=0)
        if self.ranking not in ("probability", "logits"):
            raise ModelError(f"ranking={self.ranking!r}: expected probability or logits")

    def read(self, reader: TextReader, given: Sequence[tuple[str, str]]) -> list[list[Encoding]]:
        room = reader.room or LONGEST_WINDOW
        longest = min(room, LONGEST_WINDOW) if self.max_seq_len is None else self.max_seq_len
        if longest > room:
            raise ModelError(f"max_seq_len={longest}, and the model has room for {room} tokens")
        overlap = min(longest // 2, LONGEST_OVERLAP) if self.doc_stride is None else self.doc_stride
        if overlap >= longest:
            raise ModelError(f"doc_stride={overlap} of windows of {longest} tokens: make it less")
        pairs = [(self.shortened(reader, question), context) for question, context in given]
        for question, context in pairs:
            if not reader.tokenizer.encode(question, add_special_tokens=False).ids:
                raise ModelError(
                    f"the question {question!r:.60} of {context!r:.60} is empty: there is nothing to answer"
                )
        read = cut(reader.tokenizer, pairs, longest, overlap, "only_second")
        for (question, context), windows in zip(given, read, strict=True):
            if not any(1 in encoding.sequence_ids for encoding in windows):
                raise ModelError(f"the context of {question!r:.60} is empty: there is no span to choose")
            reader.check_room([context] * len(windows), [encoding.ids for encoding in windows])
        return read

    def shortened(self, reader: TextReader, question: str) -> str:
        """The question without what is beyond `max_question_len`."""
        offsets = reader.tokenizer.encode(question, add_special_tokens=False).offsets
        cut_off = self.max_question_len is not None and len(offsets) > self.max_question_len
        return question[: offsets[self.max_question_len - 1][1]] if cut_off else question

    def answer(
        self, reader: TextReader, given: tuple[str, str], read: list[Encoding], outputs: list[dict[str, np.ndarray]]
    ) -> Answer | list[Answer]:
        windows, context = windows_of(read, self.align_to_words), given[1]
        logits = [(each["start_logits"], each["end_logits"]) for each in outputs]
        settings = dict(top_k=self.top_k, longest=self.max_answer_len, impossible=self.handle_impossible_answer)
        if self.ranking == "logits":
            answers = spans.by_logits(windows, logits, context, **settings, threshold=self.null_threshold)
        else:
            count = 2 * self.top_k + 10 if self.align_to_words else self.top_k
            answers = spans.by_probability(windows, logits, context, **settings, spans=count)
        return answers[0] if self.top_k == 1 else answers
