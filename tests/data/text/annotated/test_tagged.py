"""Tagged sentences: columns, JSON lines and TFDS give the same words with the same labels; windows, sub-tokens and errors."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import TextForm
from data.ragged import IGNORED
from data.text.annotated.tagged import PreparedTagged, TaggedText
from data.text.tokenizers import train_tokenizer
from models.bert import BertConfig
from tests.data.images.samples import write_tfds

FORM = TextForm(24, reads=("labels",))
PEOPLE, PLACES = ["Anna", "Mary Ann", "O'Neil"], ["Berlin", "Rio", "Aix"]


def silent(message: str) -> None:
    """Says nothing."""


def sentences(count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Words and labels; names of two words have an inside."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        person, place = random.choice(PEOPLE).split(), str(random.choice(PLACES))
        words = [*person, "went", "to", place, f"{seed}{number}", "."]
        labels = ["B-PER", *["I-PER"] * (len(person) - 1), "O", "O", "B-LOC", "O", "O"]
        found.append((words, labels))
    return found


def write(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".conll":
        text = "\n".join("".join(f"{w} X {x}\n" for w, x in zip(*row, strict=True)) for row in rows)
        path.write_text("-DOCSTART- X O\n\n" + text)
    else:
        path.write_text("\n".join(json.dumps({"words": words, "labels": labels}) for words, labels in rows))
    return path


def source(tmp_path: Path, place: Path | str, **settings) -> TaggedText:
    settings = {"vocab_size": 90, "held_out": 0.25, "cache": str(tmp_path / "cache"), **settings}
    return TaggedText(source=str(place), **settings)


def prepare(data: TaggedText) -> PreparedTagged:
    return data.prepare(400, Path(), silent)


def read(prepared: PreparedTagged, form: TextForm = FORM) -> list[tuple[str, tuple[str, ...]]]:
    """The text and the asked labels of all examples."""
    found = []
    for examples in (prepared.training(form, 0).in_order(), prepared.held_out(form)):
        batch = examples.batch(np.arange(len(examples)))
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert ids[0] == prepared.vocabulary.cls and ids[mask.sum() - 1] == prepared.vocabulary.sep
            asked = tuple(prepared.vocabulary.labels[label] for label in labels if label != IGNORED)
            found.append((prepared.tokenizer.decode(ids[mask > 0].tolist()).replace(" ", ""), asked))
    return sorted(found)


def expected(rows: list[tuple[list[str], list[str]]]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted(("".join(words).lower(), tuple(labels)) for words, labels in rows)


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl"])
def test_files_give_their_words_and_labels(name: str, tmp_path: Path) -> None:
    prepared = prepare(source(tmp_path, write(tmp_path / name, sentences(40))))
    assert prepared.vocabulary.labels == ("B-LOC", "B-PER", "I-PER", "O") and sum(prepared.counts) == 40
    assert read(prepared, dataclasses.replace(FORM, length=64)) == expected(sentences(40))


def test_a_folder_may_say_which_sentences_are_held_out(tmp_path: Path) -> None:
    write(tmp_path / "s/train.conll", sentences(30))
    write(tmp_path / "s/dev.conll", sentences(9, seed=1))
    prepared = prepare(source(tmp_path, tmp_path / "s"))
    assert prepared.counts == (30, 9) and prepared.given
    held_out = prepared.held_out(dataclasses.replace(FORM, length=64)).batch(np.arange(9))
    assert (held_out["labels"] != IGNORED).sum() == sum(len(words) for words, _ in sentences(9, seed=1))


def test_tfds_names_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets.text  # noqa: F401 - registers conll2003

    def records(rows):
        return [
            {"tokens": words, "ner": labels, "pos": ["NN"] * len(words), "chunks": ["O"] * len(words)}
            for words, labels in rows
        ]

    splits = {"train": records(sentences(30)), "dev": records(sentences(9, seed=1)), "test": records(sentences(3))}
    write_tfds("conll2003", tmp_path, splits, monkeypatch)
    data = source(tmp_path, "conll2003", features=("tokens", "ner"), held_out_split="dev")
    prepared = prepare(data)
    assert prepared.vocabulary.labels[:3] == ("O", "B-PER", "I-PER") and len(prepared.vocabulary.labels) == 9
    assert read(prepared, dataclasses.replace(FORM, length=64)) == expected(sentences(30) + sentences(9, seed=1))
    with pytest.raises(DataError, match="`tokens` of conll2003 is no list of labels"):
        prepare(dataclasses.replace(data, features=("ner", "tokens")))


def test_a_words_first_token_is_asked_or_all_of_them(tmp_path: Path) -> None:
    """Byte pairs, too, whose tokens begin with the space before the word."""
    rows = [(["unhappily", "Zanzibari", "!"], ["O", "B-PER", "O"]), *sentences(30)]
    path = write(tmp_path / "a.jsonl", rows)
    for kind in ("wordpiece", "byte_bpe", "unigram"):
        prepared = prepare(source(tmp_path, path, kind=kind, vocab_size=None, lowercase=False))
        every = prepare(source(tmp_path, path, kind=kind, vocab_size=None, lowercase=False, label_all=True))
        first, labels = prepared.sentences, every.sentences
        begin, end = prepared.corpus.spans(np.array([0]))[:, 0]
        tokens = [prepared.tokenizer.id_to_token(int(i)) for i in prepared.corpus.tokens[begin:end]]
        assert first.first[begin:end].sum() == 3 and len(tokens) > 6
        starts = np.flatnonzero(first.first[begin:end])
        words = ["".join(tokens[one:other]) for one, other in zip(starts, [*starts[1:], len(tokens)], strict=True)]
        assert [word.replace("##", "").strip("▁Ġ") for word in words] == rows[0][0]
        names = [prepared.vocabulary.labels[label] for label in labels.asked[begin:end]]
        assert names == ["O"] * starts[1] + ["B-PER"] + ["I-PER"] * (starts[2] - starts[1] - 1) + ["O"] * (
            len(tokens) - starts[2]
        )
        assert prepared.fingerprint != every.fingerprint


def test_long_sentences_are_windows_that_end_between_words(tmp_path: Path) -> None:
    long = ([f"w{n}" for n in range(60)], ["O", "B-LOC"] * 30)
    prepared = prepare(source(tmp_path, write(tmp_path / "a.conll", [long, *sentences(20)])))
    items = np.union1d(prepared.training_items, prepared.held_out_items)
    examples = prepared.examples(items, FORM, 0).in_order()
    batch = examples.batch(np.arange(len(examples)))
    windows = np.flatnonzero(examples.windows[:, 0] == 0)
    assert len(windows) > 3 and (batch["attention_mask"].sum(1) <= 24).all()
    asked = batch["labels"][windows]
    assert (asked != IGNORED).sum() == 60 and all(row[row != IGNORED][0] == row[1] for row in asked)
    guesses = np.where(batch["labels"] == IGNORED, 3, batch["labels"])
    judged = list(examples.by_sentence(np.arange(len(examples)), guesses))
    assert len(judged) == 21 and all((labels == found).all() for labels, found in judged)
    assert len(list(examples.by_sentence(np.arange(1, len(examples)), guesses[1:]))) == 20, "a window is missing"


def test_a_word_without_a_token_is_no_other_words(tmp_path: Path) -> None:
    rows = [(["Anna", "\u200b", "went"], ["B-PER", "O", "O"]), *sentences(20)]
    prepared = prepare(source(tmp_path, write(tmp_path / "a.jsonl", rows)))
    examples = prepared.examples(np.arange(1), FORM, 0).in_order()
    ((labels, guesses),) = examples.by_sentence(np.arange(1), examples.batch(np.arange(1))["labels"])
    assert guesses.tolist() == [labels[0], IGNORED, labels[2]]


def test_blank_examples_look_like_real_ones_and_examples_travel(tmp_path: Path) -> None:
    data = source(tmp_path, write(tmp_path / "a.conll", sentences(30)))
    prepared = prepare(data)
    config = prepared.adapt(BertConfig(vocab_size=400))
    assert config.labels == prepared.vocabulary.labels and config.pad_token_id == prepared.vocabulary.pad
    form = dataclasses.replace(FORM, buckets=2, together=4)
    examples, blank = prepared.training(form, 3), data.outline(400).training(FORM, 3)[0]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in examples[5].items()}
    other = pickle.loads(pickle.dumps(examples))[5]
    assert all(np.array_equal(other[name], examples[5][name]) for name in other)
    batch = examples.batch(np.arange(4), np.arange(4))
    assert batch["input_ids"].shape[1] in examples.buckets.lengths and batch["labels"].shape == batch["input_ids"].shape


WORDS = '{"words": ["a", "b"], "labels": '
BAD = {
    "a column too many": ("a.conll", "a X O\nb X O O\n\nc X B\n", r"a.conll, line 2 has 4 columns, expected 3"),
    "a word alone": ("a.conll", "a\nb\n", r"a.conll, line 1 has 1 columns, expected 2"),
    "a label too many": ("a.jsonl", WORDS + '["O", "O", "O"]}', "a.jsonl, line 1: 2 words and 3 labels"),
    "an empty label": ("a.jsonl", WORDS + '["O", " "]}', "a.jsonl, line 1: 'labels' has ' ', expected a word"),
    "no words": ("a.jsonl", '{"words": [], "labels": []}', r"line 1: 'words' is \[\], expected a list"),
    "a text": ("a.jsonl", '{"words": "a b", "labels": ["O", "O"]}', "line 1: 'words' is 'a b', expected a list"),
    "no labels": (
        "a.jsonl",
        '{"words": ["a"], "tags": ["O"]}',
        "line 1 has no 'labels', but words, tags: set --data.f",
    ),
    "no object": ("a.jsonl", "[]", "a.jsonl, line 1: expected an object with words and labels"),
    "one label": ("a.conll", "a O\n\nb O\n\nc O\n\nd O\n", "holds the one label 'O'"),
    "two of a name": (
        "a.jsonl",
        f'{WORDS}["O", "O "]}}\n{{"words": ["c"], "labels": ["O"]}}',
        "two ways, 'O' and 'O '",
    ),
    "nothing": ("a.conll", "\n\n", "holds no sentence"),
    "another file": ("a.pdf", "a", r"is no .conll and no .jsonl file"),
    "none": ("b/a.conll", None, "there is no .*a.conll"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, tmp_path: Path) -> None:
    name, content, said = BAD[case]
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        prepare(source(tmp_path, tmp_path / name))


def test_a_label_that_only_held_out_sentences_have_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s/train.jsonl", sentences(20))
    write(tmp_path / "s/validation.jsonl", [(["a", "b"], ["O", "B-ORG"])])
    with pytest.raises(
        DataError, match=r"validation.jsonl, line 1 has the label 'B-ORG', which no sentence to train on"
    ):
        prepare(source(tmp_path, tmp_path / "s"))


def test_broken_sentences_are_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", sentences(20))
    path.write_text(path.read_text() + "\nx O\n\nAnna X B-PER\n")
    prepared = prepare(source(tmp_path, path, broken="skip"))
    assert sum(prepared.counts) == 21
    survey = source(tmp_path, path).survey(lambda done, count: None)
    assert survey.counts["sentences that can be read"] == "21" and "has 2 columns, expected 3" in survey.broken[0]


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path: Path) -> None:
    train_tokenizer(["a b c d e"] * 9, kind="byte_bpe", vocab_size=300, path=tmp_path / "tokenizer.json")
    data = source(
        tmp_path, write(tmp_path / "a.conll", sentences(20)), template="gpt2", kind="byte_bpe", vocab_size=None
    )
    with pytest.raises(DataError, match="has no pad token"):
        prepare(data).training(FORM, 0)
    with pytest.raises(DataError, match="no room"):
        prepare(source(tmp_path, tmp_path / "a.conll")).training(TextForm(2), 0)
