"""Questions: files and TFDS give the same; windows hold all of a context, answers stand where they should; errors."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import SpanForm
from data.text.annotated.questions import PreparedQuestions, Questions
from data.text.strides import cut, windows_of
from tests.data.images.samples import write_tfds

FORM = SpanForm(24, stride=6, question=8, reads=("start_positions", "end_positions"))
THINGS, PLACES = ["lamp", "book", "key", "map"], ["shelf", "table", "floor", "bed"]


def silent(message: str) -> None:
    """Says nothing."""


def rows(count: int, seed: int = 0, impossible: bool = False) -> list[dict]:
    """Questions about where things are, each with two answers."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        chosen = random.permutation(4)
        places = [
            f"The {THINGS[n]} of {seed}{number} lies on a {PLACES[m]}." for n, m in zip(range(4), chosen, strict=True)
        ]
        context, thing = " ".join(places), int(random.integers(4))
        answer = PLACES[chosen[thing]]
        answers = {
            "text": [answer, f"a {answer}"],
            "answer_start": [context.index(answer), context.index(f"a {answer}")],
        }
        if impossible and number % 3 == 0:
            answers = {"text": [], "answer_start": []}
        found.append({"question": f"Where is the {THINGS[thing]}?", "context": context, "answers": answers})
    return found


def write(path: Path, questions: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, questions)))
        return path
    paragraphs = []
    for number, row in enumerate(questions):
        answers = [{"text": t, "answer_start": n} for t, n in zip(*row["answers"].values(), strict=True)]
        paragraphs.append(
            {"context": row["context"], "qas": [{"id": number, "question": row["question"], "answers": answers}]}
        )
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}))
    return path


def source(tmp_path: Path, place: Path | str, **settings) -> Questions:
    settings = {"vocab_size": 120, "held_out": 0.25, "cache": str(tmp_path / "cache"), **settings}
    return Questions(source=str(place), **settings)


def prepare(data: Questions) -> PreparedQuestions:
    return data.prepare(400, Path(), silent)


def read(prepared: PreparedQuestions, form: SpanForm = FORM) -> set[tuple[str, str]]:
    """Questions with what the tokens between both places say, of the windows that hold an answer."""
    found = set()
    for examples in (prepared.training(form, 0).in_order(), prepared.held_out(form)):
        batch = examples.batch(np.arange(len(examples)))
        for row in range(len(examples)):
            ids = batch["input_ids"][row][batch["attention_mask"][row] > 0].tolist()
            first, last = int(batch["start_positions"][row]), int(batch["end_positions"][row])
            question = prepared.tokenizer.decode(ids[1 : ids.index(prepared.vocabulary.sep)])
            if first:
                assert batch["token_type_ids"][row][first] == 1
                found.add((question.replace(" ", ""), prepared.tokenizer.decode(ids[first : last + 1])))
    return found


def expected(questions: list[dict]) -> set[tuple[str, str]]:
    return {
        (row["question"].lower().replace(" ", ""), row["answers"]["text"][0])
        for row in questions
        if row["answers"]["text"]
    }


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("impossible", [True, False])
def test_files_give_their_questions_and_answers(name: str, impossible: bool, tmp_path: Path) -> None:
    questions = rows(40, impossible=impossible)
    prepared = prepare(source(tmp_path, write(tmp_path / name, questions)))
    assert sum(prepared.counts) == 40 and read(prepared) == expected(questions)


def test_tfds_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(questions):
        return [{"id": str(n), "title": "", **row} for n, row in enumerate(questions)]

    splits = {"train": records(rows(30)), "validation": records(rows(9, seed=1))}
    write_tfds("squad/v1.1", tmp_path, splits, monkeypatch)
    prepared = prepare(source(tmp_path, "squad/v1.1"))
    assert prepared.counts == (30, 9) and read(prepared) == expected(rows(30) + rows(9, seed=1))


def test_windows_are_those_of_a_pipeline(tmp_path: Path) -> None:
    """Ids, token types, characters and where the context is fullest, of every window of every question."""
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", rows(20))))
    examples = prepared.examples(np.arange(20), FORM, 0).in_order()
    batch = examples.batch(np.arange(len(examples)))
    tokenizer = prepared.tokenizer
    pairs = [(row.question, row.text) for row in prepared.rows]
    place = 0
    for number, encodings in enumerate(cut(tokenizer, pairs, FORM.length, FORM.stride, "only_second")):
        shown = examples.shown(number, examples.windows[examples.windows[:, 0] == number, 1:])
        assert len(encodings) == len(shown) > 1
        for encoding, window, ours in zip(encodings, windows_of(encodings), shown, strict=True):
            ids = batch["input_ids"][place]
            assert ids[: len(encoding.ids)].tolist() == encoding.ids
            assert batch["token_type_ids"][place][: len(encoding.ids)].tolist() == encoding.type_ids
            np.testing.assert_array_equal(ours.inside, window.inside)
            np.testing.assert_array_equal(ours.fullest, window.fullest)
            np.testing.assert_array_equal(ours.spans[ours.inside], window.spans[window.inside])
            place += 1
    assert place == len(examples)


def test_questions_are_cut_and_contexts_are_on_one_side(tmp_path: Path) -> None:
    twice = rows(20)
    twice += [{**row, "question": "Where " + "oh where " * 20 + "is it?"} for row in twice]
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", twice)))
    sides = [{prepared.rows[n].text for n in items} for items in (prepared.training_items, prepared.held_out_items)]
    assert not sides[0] & sides[1] and sum(prepared.counts) == 40
    held_out = prepared.held_out(FORM)
    batch = held_out.batch(np.arange(len(held_out)))
    assert ((batch["token_type_ids"] == 0) & (batch["attention_mask"] > 0)).sum(1).max() == FORM.question + 2


def test_blank_examples_look_like_real_ones_and_examples_travel(tmp_path: Path) -> None:
    data = source(tmp_path, write(tmp_path / "a.jsonl", rows(30)))
    examples, blank = prepare(data).training(FORM, 3), data.outline(400).training(FORM, 3)[0]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in examples[5].items()}
    other = pickle.loads(pickle.dumps(examples))[5]
    assert all(np.array_equal(other[name], examples[5][name]) for name in other) and not examples.rows
    form = dataclasses.replace(FORM, buckets=2, together=4)
    ragged = prepare(data).training(form, 0)
    assert ragged.batch(np.arange(4), np.arange(4))["input_ids"].shape[1] in ragged.buckets.lengths


ROW = '{"question": "who", "context": "Anna went home.", "answers": '
BAD = {
    "another place": (
        ROW + '{"text": ["Anna"], "answer_start": [5]}}',
        "line 1: the answer 'Anna' does not stand at charac",
    ),
    "no place": (ROW + '{"text": ["Anna"], "answer_start": ["x"]}}', "line 1: the answer 'Anna' at 'x' is none"),
    "a place too many": (
        ROW + '{"text": ["Anna"], "answer_start": [0, 1]}}',
        "line 1: the answers are .* expected a text and",
    ),
    "a text": (ROW + '"Anna"}', "line 1: the answers are 'Anna', expected a text and an answer_start of each"),
    "an empty context": ('{"question": "who", "context": " ", "answers": []}', "line 1: 'context' is empty"),
    "an empty question": ('{"question": "", "context": "a", "answers": []}', "line 1: 'question' is empty"),
    "no answers": ('{"question": "who", "context": "a"}', "line 1 has no 'answers', but question, context"),
    "no JSON": ("{", "a.jsonl is no JSON on every line: line 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, tmp_path: Path) -> None:
    content, said = BAD[case]
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=said):
        prepare(source(tmp_path, tmp_path / "a.jsonl"))


def test_a_json_file_that_is_none_of_squads_is_a_sentence(tmp_path: Path) -> None:
    for content, said in (("{}", "is not written as SQuAD's files are, but has no 'data'"), ("{", "a.json is no JSON")):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=said):
            prepare(source(tmp_path, tmp_path / "a.json"))


def test_no_answer_takes_a_token_that_begins_a_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(30, impossible=True))
    with pytest.raises(DataError, match="the token that begins a text stands for"):
        prepare(source(tmp_path, path, template="t5", kind="unigram", vocab_size=None)).training(FORM, 0)
    with pytest.raises(DataError, match="no room"):
        prepare(source(tmp_path, path)).training(SpanForm(10, question=8), 0)
