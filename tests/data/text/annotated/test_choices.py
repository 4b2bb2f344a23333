"""Choices: tables shaped as SWAG's and JSON lines give the same pairs; cutting, blank examples and errors."""

import csv
import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import ChoiceForm
from data.text.annotated.choices import Choices, PreparedChoices
from models.bert import BertConfig

FORM = ChoiceForm(32, choices=3, reads=("labels",))
WORDS = ["red", "green", "blue", "stone", "river", "cloud", "seven", "old"]


def silent(message: str) -> None:
    """Says nothing."""


def rows(count: int, seed: int = 0) -> list[tuple[str, str, list[str], int]]:
    """A text, what all choices begin with, the choices, and which is right."""
    random = np.random.default_rng(seed)
    return [
        (
            f"{seed} {n} {' '.join(random.choice(WORDS, 4))}",
            "then",
            list(random.choice(WORDS, 3)),
            int(random.integers(3)),
        )
        for n in range(count)
    ]


def write(path: Path, choices: list[tuple[str, str, list[str], int]]) -> Path:
    if path.suffix == ".jsonl":
        keys = ("sent1", "sent2", "ending", "label")
        path.write_text("\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in choices))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", "sent1", "sent2", "ending0", "ending1", "ending2", "label"])
            writer.writerows(
                [n, text, begin, *endings, label] for n, (text, begin, endings, label) in enumerate(choices)
            )
    return path


def source(tmp_path: Path, place: Path, **settings) -> Choices:
    settings = {"vocab_size": 120, "held_out": 0.25, "cache": str(tmp_path / "cache"), **settings}
    settings = {"features": ("sent1", "ending", "label"), "begin": "sent2", **settings}
    return Choices(source=str(place), **settings)


def prepare(data: Choices) -> PreparedChoices:
    return data.prepare(400, Path(), silent)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_tables_give_their_pairs(name: str, tmp_path: Path) -> None:
    prepared = prepare(source(tmp_path, write(tmp_path / name, rows(30))))
    found = []
    for examples in (prepared.training(FORM, 0).in_order(), prepared.held_out(FORM)):
        batch = examples.batch(np.arange(len(examples)))
        assert batch["input_ids"].shape == (len(examples), 3, 32)
        for ids, mask, types, label in zip(
            *(batch[name] for name in ("input_ids", "attention_mask", "token_type_ids", "labels")), strict=True
        ):
            pairs = [
                [prepared.tokenizer.decode(choice[(m > 0) & (t == part)].tolist()) for part in (0, 1)]
                for choice, m, t in zip(ids, mask, types, strict=True)
            ]
            assert len({first for first, _ in pairs}) == 1
            found.append((pairs[0][0], [second for _, second in pairs], int(label)))
    assert sorted(found) == sorted(
        (text, [f"{begin} {one}" for one in endings], n) for text, begin, endings, n in rows(30)
    )


def test_long_pairs_lose_their_ends_and_keep_their_frame(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [(" ".join(WORDS) * 5 + str(n), "then", ["red", "blue", "old"], 0) for n in range(9)]
    )
    prepared = prepare(source(tmp_path, path))
    batch = prepared.training(FORM, 0).in_order().batch(np.arange(2))
    assert batch["attention_mask"].all() and (batch["input_ids"][..., -1] == prepared.vocabulary.sep).all()
    assert (batch["token_type_ids"] == 1).sum(-1).min() == len(prepared.tokenizer.encode("then red").ids) - 1


def test_choices_are_no_labels_of_the_model(tmp_path: Path) -> None:
    prepared = prepare(source(tmp_path, write(tmp_path / "a.csv", rows(30))))
    config = BertConfig(vocab_size=400)
    assert prepared.vocabulary.classes == 3 and prepared.adapt(config).labels == config.labels


def test_blank_examples_look_like_real_ones_and_examples_travel(tmp_path: Path) -> None:
    data = source(tmp_path, write(tmp_path / "a.csv", rows(30)))
    examples, blank = prepare(data).training(FORM, 3), data.outline(400).training(FORM, 3)[0]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in examples[5].items()}
    other = pickle.loads(pickle.dumps(examples))[5]
    assert all(np.array_equal(other[name], examples[5][name]) for name in other)
    ragged = prepare(data).training(dataclasses.replace(FORM, buckets=2, together=4), 0)
    batch = ragged.batch(np.arange(4), np.arange(4))
    assert batch["input_ids"].shape[-1] in ragged.buckets.lengths


HEAD = "sent1,sent2,ending0,ending1,ending2,label\n"
BAD = {
    "a column too many": (
        "a.csv",
        HEAD + "a,b,c,d,e,0\na,b,c,d,e,0,x\n",
        "a.csv, line 3 has 7 columns, and the first line names 6",
    ),
    "no such choice": (
        "a.csv",
        HEAD + "a,b,c,d,e,3\n",
        r"line 2: 'label' is '3', expected the number of one of 3 choices",
    ),
    "no number": ("a.csv", HEAD + "a,b,c,d,e,x\n", "line 2: 'label' is 'x', expected the number"),
    "an empty choice": ("a.csv", HEAD + "a,b,c, ,e,1\n", "line 2: 'ending 1' is empty"),
    "an empty text": ("a.csv", HEAD + ",b,c,d,e,1\n", "line 2: 'sent1' is empty"),
    "another column": ("a.csv", "sent1,ending0,ending1,label\na,b,c,0\n", "line 2 has no 'sent2', but sent1, ending0"),
    "one choice": (
        "a.jsonl",
        '{"sent1": "a", "sent2": "b", "ending": ["c"], "label": 0}',
        "'ending' is .* expected a list of two",
    ),
    "a text": (
        "a.jsonl",
        '{"sent1": "a", "sent2": "b", "ending": "cd", "label": 0}',
        "'ending' is 'cd', expected a list of two",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, tmp_path: Path) -> None:
    name, content, said = BAD[case]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        prepare(source(tmp_path, tmp_path / name))


def test_all_need_as_many_choices_as_the_form_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*rows(9), ("a", "b", ["c", "d"], 1)])
    with pytest.raises(DataError, match="line 10 has 2 choices, and the first row 3"):
        prepare(source(tmp_path, path))
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", rows(9))))
    with pytest.raises(DataError, match=r"have 3 choices: set --phases.0.form.choices 3, not 4"):
        prepared.training(ChoiceForm(32), 0)
