"""Labelled texts: folders, tables and TFDS give the same texts with the same labels; sides, framing and errors."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import TextForm
from data.text.labelled import LabelledText, PreparedLabelled
from models.bert import BertConfig
from tests.data.images.samples import write_tfds

FORM = TextForm(12, reads=("labels",))
WORDS = ["red", "green", "blue", "stone", "river", "cloud", "seven", "old"]


def silent(message: str) -> None:
    """Says nothing."""


def texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of a few words, and `ham` or `spam`."""
    random = np.random.default_rng(seed)
    words = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(count)]
    return [(f"{text} {seed} {n}", ("ham", "spam")[n % 3 == 0]) for n, text in enumerate(words)]


def write_folder(folder: Path, rows: list[tuple[str, str]]) -> None:
    for number, (text, label) in enumerate(rows):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number}.txt").write_text(text)


def source(tmp_path: Path, place: Path | str, **settings) -> LabelledText:
    settings = {"vocab_size": 300, "held_out": 0.25, "cache": str(tmp_path / "cache"), **settings}
    return LabelledText(source=str(place), **settings)


def prepare(data: LabelledText) -> PreparedLabelled:
    return data.prepare(400, Path(), silent)


def read(prepared: PreparedLabelled) -> set[tuple[str, str]]:
    """All texts and labels, as the examples have them."""
    form = dataclasses.replace(FORM, length=64)
    found = set()
    for examples in (prepared.training(form, 0).in_order(), prepared.held_out(form)):
        batch = examples.batch(np.arange(len(examples)))
        for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert ids[0] == prepared.vocabulary.cls and ids[mask.sum() - 1] == prepared.vocabulary.sep
            assert (ids[mask == 0] == prepared.vocabulary.pad).all()
            found.add((prepared.tokenizer.decode(ids[mask > 0].tolist()), prepared.vocabulary.labels[label]))
    return found


def test_folders_and_tables_give_the_same_texts_and_labels(tmp_path: Path) -> None:
    rows = texts(60)
    write_folder(tmp_path / "folder", rows)
    (tmp_path / "table.tsv").write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in rows))
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    for name in ("folder", "table.tsv", "table.jsonl"):
        prepared = prepare(source(tmp_path, tmp_path / name))
        assert prepared.vocabulary.labels == ("ham", "spam") and sum(prepared.counts) == len(rows)
        assert read(prepared) == set(rows)


def test_a_folder_may_say_which_texts_are_held_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "s/train", texts(30))
    write_folder(tmp_path / "s/val", texts(9, seed=1))
    prepared = prepare(source(tmp_path, tmp_path / "s"))
    assert prepared.counts == (30, 9) and read(prepared) == {*texts(30), *texts(9, seed=1)}
    assert prepared.all_held_out().counts == (30, 9)
    held_out = prepared.held_out(dataclasses.replace(FORM, length=64))
    words = [prepared.tokenizer.decode(ids.tolist()) for ids in held_out.batch(np.arange(9))["input_ids"]]
    assert sorted(words) == sorted(text for text, _ in texts(9, seed=1))


def test_a_tfds_data_set_names_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets.text  # noqa: F401 - registers glue

    def records(rows, unlabelled=False):
        return [
            {"sentence": text, "label": -1 if unlabelled else int(label == "spam"), "idx": n}
            for n, (text, label) in enumerate(rows)
        ]

    splits = {
        "train": records(texts(30)),
        "validation": records(texts(9, seed=1)),
        "test": records(texts(5, seed=2), unlabelled=True),
    }
    write_tfds("glue/sst2", tmp_path, splits, monkeypatch)
    data = source(tmp_path, "glue/sst2", features=("sentence", "label"))
    prepared = prepare(data)
    assert prepared.vocabulary.labels == ("negative", "positive") and prepared.counts == (30, 9)
    named = {"ham": "negative", "spam": "positive"}
    assert read(prepared) == {(text, named[label]) for text, label in (*texts(30), *texts(9, seed=1))}
    with pytest.raises(DataError, match="keeps its labels to itself"):
        prepare(dataclasses.replace(data, held_out_split="test"))
    with pytest.raises(DataError, match="no label of a class"):
        prepare(dataclasses.replace(data, features=("sentence", "idx")))


@pytest.mark.parametrize("count", [6, 9])
def test_what_was_read_with_one_split_is_not_taken_for_another(tmp_path: Path, count: int) -> None:
    for split, number, seed in (("train", 12, 1), ("validation", 6, 2), ("test", count, 3)):
        write_folder(tmp_path / "mails" / split, texts(number, seed=seed))
    data = source(tmp_path, tmp_path / "mails")
    form = dataclasses.replace(FORM, length=64)
    for split, number, seed in (("", 6, 2), ("test", count, 3), ("validation", 6, 2)):
        prepared = prepare(dataclasses.replace(data, held_out_split=split))
        held = prepared.held_out(form)
        ids = held.batch(np.arange(len(held)))["input_ids"]
        assert prepared.counts == (12, number)
        assert all(f" {seed} " in prepared.tokenizer.decode(row[row > 0].tolist()) for row in ids)


def test_labels_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    rows = [{"text": f"{n} stars", "label": n} for n in range(12)]
    (tmp_path / "stars.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepared = prepare(source(tmp_path, tmp_path / "stars.jsonl"))
    assert prepared.vocabulary.labels == tuple(map(str, range(12))) and prepared.vocabulary.classes == 12


def test_long_texts_lose_their_end_and_keep_their_frame(tmp_path: Path) -> None:
    write_folder(tmp_path / "s/train", [("red " * 40, "a"), ("old", "a"), ("blue " * 40, "b"), ("river", "b")])
    write_folder(tmp_path / "s/val", [("red", "a"), ("old", "b")])
    prepared = prepare(source(tmp_path, tmp_path / "s"))
    examples = prepared.training(FORM, 0).in_order()
    batch = examples.batch(np.arange(len(examples)))
    assert (
        batch["attention_mask"].all(1).tolist() == [True, False, True, False] and batch["input_ids"].dtype == np.int32
    )
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[mask.sum() - 1] == prepared.vocabulary.sep
    with pytest.raises(DataError, match="no room"):
        prepared.training(TextForm(2), 0)


def test_labels_go_into_the_config_and_other_labels_are_other_data(tmp_path: Path) -> None:
    write_folder(tmp_path / "s", texts(30))
    prepared = prepare(source(tmp_path, tmp_path / "s"))
    config = prepared.adapt(BertConfig(vocab_size=400))
    assert config.labels == ("ham", "spam") and config.pad_token_id == prepared.vocabulary.pad
    (tmp_path / "s/ham").rename(tmp_path / "s/wanted")
    assert prepare(source(tmp_path, tmp_path / "s")).fingerprint != prepared.fingerprint


def test_blank_examples_look_like_real_ones_and_examples_travel(tmp_path: Path) -> None:
    write_folder(tmp_path / "s", texts(30))
    data = source(tmp_path, tmp_path / "s")
    examples = prepare(data).training(FORM, 3)
    blank = data.outline(400).training(FORM, 3)[0]
    real = examples[5]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in real.items()}
    other = pickle.loads(pickle.dumps(examples))[5]
    assert all(np.array_equal(other[name], real[name]) for name in real)


@pytest.mark.parametrize(
    "content, message",
    [
        ("text\tlabel\nred\tham\nblue\tham\n", "holds the one label 'ham'"),
        ("text\tkind\nred\tham\n", "has no text 'label', but text, kind: set --data.features TEXT LABEL"),
        ("text\tlabel\nred\t\n", "line 2: 'label' is empty"),
        ("text\tlabel\nred\ta\nblue\tb\tc\n", "t.tsv, line 3 has 3 columns, and the first line names 2: text, label"),
    ],
)
def test_tables_that_are_none_are_a_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        prepare(source(tmp_path, tmp_path / "t.tsv"))


def test_broken_texts_are_refused_or_left_out_with_their_labels(tmp_path: Path) -> None:
    write_folder(tmp_path / "s", texts(30))
    (tmp_path / "s/ham/1.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        prepare(source(tmp_path, tmp_path / "s"))
    prepared = prepare(source(tmp_path, tmp_path / "s", broken="skip"))
    assert read(prepared) == {row for n, row in enumerate(texts(30)) if n != 1}
    survey = source(tmp_path, tmp_path / "s").survey(lambda done, count: None)
    assert survey.counts["classes"] == "2, of 10 to 19 texts" and len(survey.broken) == 1
