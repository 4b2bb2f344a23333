"""Brown's corpus and Wikipedia's pages as files of tags, choices and questions; the simple rules that runs are held against."""

import dataclasses
import json
import random
import sys

import pytest

from data.text.annotated.rows import documents
from experiments.campaigns.learning import tasks as learning_tasks
from experiments.experiment import load
from experiments.material import brown, questions
from tests.data.text.annotated import test_choices as choices
from tests.data.text.annotated import test_tagged as tagged

TAGGED = """

	The/at Fulton/np-tl jury/nn said/vbd ``/`` yes/rb ''/'' ./.
	It/pps didn't/dod* ,/, either/or/cc ./.


	We/ppss+hv left/vbd ./.
"""
PAGE = (
    "A river of some length is called the Severn by all who live near it today. "
    "In 1759 the mill was built by John Carr of York beside the old bridge over that water. "
    "The house was sold to Anna Moss for 3,500 pounds before the war with France began."
)


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("nn-tl", "nn"),
        ("fw-nn$-tl", "nn"),
        ("ppss+hv", "ppss"),
        ("dod*", "dod"),
        ("*", "*"),
        ("pp$", "pp$"),
        ("wp$", "wp$"),
        ("--", "--"),
        (".-hl", "."),
        ("``", "``"),
        ("-hl", "nil"),
    ],
)
def test_base_classes(tag, base):
    assert brown.base_class(tag) == base


def test_brown_is_sentences_with_tags_and_choices(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    for number in range(12):
        (package / f"ca{number:02}").write_text(TAGGED.replace("jury", f"jury{number}") * 3)
    (package / "README").write_text("no corpus")
    monkeypatch.setattr(sys, "argv", ["brown", str(package), str(tmp_path / "out")])
    brown.main()
    rows = [json.loads(line) for line in (tmp_path / "out/tags/train.jsonl").read_text().splitlines()]
    assert len(rows) == 9 * 9 and rows[0]["words"][:3] == ["The", "Fulton", "jury1"]
    assert rows[1] == {"words": ["It", "didn't", ",", "either/or", "."], "labels": ["pps", "dod", ",", "cc", "."]}
    for side, numbers in (("validation", (0, 10)), ("test", (5,))):
        held = (tmp_path / f"out/tags/{side}.jsonl").read_text().splitlines()
        fultons = {json.loads(line)["words"][2] for line in held if "Fulton" in line}
        assert fultons == {f"jury{n}" for n in numbers} and len(held) == 9 * len(numbers)


def test_choices_hold_the_one_that_follows():
    written = [[f"sentence {n} {m}" for m in range(3)] for n in range(4)]
    found = list(brown.follows(written, random.Random(0)))
    assert len(found) == 8 and len({row["label"] for row in found}) > 1
    for row in found:
        place = [int(x) for x in row["context"].split()[1:]]
        assert row["endings"][row["label"]] == f"sentence {place[0]} {place[1] + 1}" and len(set(row["endings"])) == 4
        assert row["context"] not in row["endings"]


def test_sentences_are_written_with_their_punctuation():
    assert brown.sentence([("``", ""), ("Yes", ""), (",", ""), ("sir", ""), ("''", ""), (".", "")]) == '" Yes, sir ".'


@pytest.mark.parametrize("unanswerable", [0.0, 0.5])
def test_answers_stand_where_the_questions_say(unanswerable):
    pages = documents(
        ["\n".join(PAGE.replace("1759", str(1700 + n)).replace("Severn", f"S{n}vern") for n in range(40))], "pages"
    )
    rows = list(questions.questions(pages, 0, unanswerable))
    assert rows == list(questions.questions(pages, 0, unanswerable)) and len(rows) > 60
    answered = [row for row in rows if row["answers"]["text"]]
    assert (len(answered) < len(rows)) == bool(unanswerable)
    for row in answered:
        (text,), (place,) = row["answers"].values()
        assert row["context"][place : place + len(text)] == text and place > 0
        assert row["question"].startswith("which number" if text[0].isdigit() else "who or what")
    assert {"John Carr of York", "3,500"} <= {row["answers"]["text"][0] for row in answered}


def test_rules_for_questions():
    asked = "which number the mill was built by john beside the old bridge?"
    assert learning_tasks.first_span(asked, PAGE) == "1759"
    assert learning_tasks.similar_span("who or what sold for 3 500 pounds before war?", PAGE) == "Anna Moss"
    assert learning_tasks.similar_span("which number house sold to anna moss pounds?", PAGE) == "3,500"
    assert learning_tasks.first_span(asked, "no number") == ""


def test_rules_for_tags_and_choices(tmp_path):
    def experiment(name, source):
        one = load(f"experiments/bert/{name}.py")
        return dataclasses.replace(one, data=source)

    tagged.write(tmp_path / "tags/train.jsonl", [(["a", "b", "a"], ["X", "Y", "X"]), (["a", "c"], ["Y", "Y"])])
    tagged.write(tmp_path / "tags/validation.jsonl", [(["a", "c", "z", "b"], ["X", "Y", "X", "X"])])
    rules = learning_tasks.of_tags(experiment("tag", tagged.source(tmp_path, tmp_path / "tags")), tmp_path)
    assert rules["the most frequent tag of each word"] == {"word_accuracy": 0.5}
    assert rules["the most frequent tag"]["word_accuracy"] in (0.25, 0.75)
    rows = [(f"{n} red blue", "then", ["green", "blue red", "old"], 1) for n in range(9)]
    source = choices.source(tmp_path, choices.write(tmp_path / "a.jsonl", rows))
    rules = learning_tasks.of_choices(experiment("choose", source), tmp_path)
    assert rules["most words in common"] == {"accuracy": 1.0} and rules["chance"]["accuracy"] == pytest.approx(1 / 3)


def test_spreads_are_over_seeds_or_examples():
    one = {"held_out": {"f1": 0.5}, "intervals": {"f1": (0.4, 0.6)}}
    other = {"held_out": {"f1": 0.7}, "intervals": {"f1": (0.6, 0.8)}}
    assert learning_tasks.spread([one], "f1") == "50.00% (40.00%–60.00%)"
    assert learning_tasks.spread([one, other], "f1") == "60.00% (50.00%–70.00%)"
