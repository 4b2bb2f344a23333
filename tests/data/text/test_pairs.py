"""Pairs: both sides come back as they were written, each pair once an epoch, held-out ones never; bad files by file and line."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import PairForm
from data.loader import load
from data.text.documents import Look
from data.text.pairs import IGNORED, Pairs, open_pairs

READS = ("input_ids", "labels")
FORM = PairForm(24, 20, reads=READS)
WORDS = ["red", "green", "blue", "stone", "river", "cloud", "seven", "old"]


def sentences(count: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(count)]
    return [(f"{text} {n}", f"{' '.join(reversed(text.split()))} {n}") for n, text in enumerate(texts)]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"en": a, "ne": b}) + "\n" for a, b in sentences(60)))
    return Pairs(
        source=str(path),
        features=("en", "ne"),
        vocab_size=300,
        held_out=0.2,
        cache=str(tmp_path / "c"),
        template="transformer",
    )


def prepare(pairs):
    return pairs.prepare(400, None, lambda message: None)


def texts(prepared, rows):
    vocabulary, found = prepared.vocabulary, []
    for row in rows:
        tokens = [int(t) for t in row if t not in (IGNORED, vocabulary.pad, vocabulary.eos)]
        found.append(prepared.tokenizer.decode(tokens).strip())
    return found


@pytest.mark.parametrize("suffix", ["jsonl", "tsv"])
def test_both_sides_come_back_each_pair_once_an_epoch(pairs, tmp_path, suffix):
    if suffix == "tsv":
        path = tmp_path / "pairs.tsv"
        path.write_text("ne\ten\tnote\n" + "".join(f'{b}\t{a}\t"x\n' for a, b in sentences(60)))
        pairs = Pairs(**{**vars(pairs), "source": str(path)})
    prepared = prepare(pairs)
    examples, written = prepared.training(FORM, 3), set(sentences(60))
    count, held_out = len(examples), len(prepared.held_out(FORM))
    assert (count, held_out) == prepared.counts and count + held_out == 60 and 4 <= held_out <= 24
    seen = []
    for epoch in range(2):
        batch = examples.batch(np.arange(count) + count * epoch)
        assert batch["input_ids"].shape == (count, 24) and batch["labels"].shape == (count, 20)
        seen.append(list(zip(texts(prepared, batch["input_ids"]), texts(prepared, batch["labels"]), strict=True)))
        assert set(seen[-1]) <= written and len(set(seen[-1])) == count
    assert set(seen[0]) == set(seen[1]) and seen[0] != seen[1]
    held = prepared.held_out(FORM).batch(np.arange(held_out))
    kept = set(zip(texts(prepared, held["input_ids"]), texts(prepared, held["labels"]), strict=True))
    assert kept == written - set(seen[0])


def test_ragged_pairs_are_whole_in_batches_of_few_shapes(pairs):
    prepared = prepare(pairs)
    whole = prepared.training(FORM, 3)
    ragged = prepared.training(dataclasses.replace(FORM, buckets=4, together=8), 3)
    shapes, seen = set(), []
    for batch in load(ragged, batch_size=8, first_step=0, last_step=len(ragged)):
        ids, labels = (batch[name][0] for name in ("input_ids", "labels"))
        shapes.add((ids.shape[1], labels.shape[1]))
        seen += zip(texts(prepared, ids), texts(prepared, labels), strict=True)
        assert (
            (labels != IGNORED).sum(axis=1) <= ragged.sizes[ragged.items(batch["index"][0].astype(np.int64))][:, 1]
        ).all()
    assert len(seen) == 8 * len(ragged) and shapes <= {tuple(x) for x in ragged.buckets.lengths.tolist()}
    assert 2 <= len(shapes) <= 4 and max(shapes) <= (24, 20)
    both = whole.batch(np.arange(len(whole)))
    expected = set(zip(texts(prepared, both["input_ids"]), texts(prepared, both["labels"]), strict=True))
    assert {*seen} == expected == {*seen[: len(ragged)]}
    halves = [[*load(ragged, batch_size=8, first_step=5, last_step=12, shard=(process, 2))] for process in (0, 1)]
    alone = load(ragged, batch_size=8, first_step=5, last_step=12)
    for batch, one, other in zip(alone, *halves, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([one[name], other[name]], axis=1))


def test_a_row_ends_and_what_is_too_long_is_cut(pairs):
    prepared = prepare(pairs)
    eos, pad = prepared.vocabulary.eos, prepared.vocabulary.pad
    for length in (2, 5, 40):
        rows = prepared.training(PairForm(length, 20, reads=READS), 0).batch(np.arange(48))
        for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True):
            size = mask.sum()
            assert mask[:size].all() and ids[size - 1] == eos and (ids[size:] == pad).all()
        assert rows["labels"].shape == (48, 20)
        assert ((rows["labels"] == eos).sum(axis=1) == 1).all()


@pytest.mark.parametrize("template", ["transformer", "bart", "mbart", "marian", "t5", "gpt2"])
def test_both_sides_stand_in_the_frame_of_the_tokenizer(pairs, template):
    """A source is what the exported tokenizer makes of its text; a target has an end, whatever the frame."""
    changes = {"template": template, "vocab_size": 400, "kind": "unigram"}
    pairs = Pairs(**{**vars(pairs), **changes})
    prepared = pairs.prepare(400, None, lambda message: None, needs=("pad", "eos"))
    batch = prepared.training(PairForm(64, 64, reads=READS), 0).batch(np.arange(40))
    written, tokenizer = dict(sentences(60)), prepared.tokenizer
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        source = tokenizer.decode(ids[: mask.sum()].tolist())
        assert ids[: mask.sum()].tolist() == tokenizer.encode(source).ids
        target = tokenizer.encode(written[source]).ids
        ended = target if template != "gpt2" else [*target, prepared.vocabulary.eos]
        assert labels[labels != IGNORED].tolist() == ended


def test_an_example_is_a_function_of_its_place(pairs):
    examples = prepare(pairs).training(FORM, 7)
    again = pickle.loads(pickle.dumps(examples))
    batch = again.batch(np.array([5, 99, 1_000_003]))
    for row, index in enumerate((5, 99, 1_000_003)):
        for name, value in examples[index].items():
            np.testing.assert_array_equal(batch[name][row], value)
    with pytest.raises(IndexError):
        held_out = prepare(pairs).held_out(FORM)
        held_out.batch(np.array([len(held_out)]))


def test_the_fingerprint_is_of_the_pairs_alone(pairs, tmp_path):
    moved = tmp_path / "moved" / "other.jsonl"
    moved.parent.mkdir()
    moved.write_bytes(b"\xef\xbb\xbf" + Path(pairs.source).read_bytes().replace(b"\n", b"\r\n"))
    first, same = prepare(pairs), prepare(Pairs(**{**vars(pairs), "source": str(moved.parent)}))
    assert first.fingerprint == same.fingerprint
    moved.write_bytes(moved.read_bytes().replace(b"stone", b"stove", 1))
    assert prepare(Pairs(**{**vars(pairs), "source": str(moved)})).fingerprint != first.fingerprint


def test_one_more_pair_moves_no_other(pairs, tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps({"en": a, "ne": b}) + "\n" for a, b in sentences(70)))
    sides = []
    for source in (pairs, Pairs(**{**vars(pairs), "source": str(path)})):
        prepared = prepare(source)
        examples = [prepared.training(FORM, 0).in_order(), prepared.held_out(FORM)]
        sides.append([set(texts(prepared, x.batch(np.arange(len(x)))["input_ids"])) for x in examples])
    assert all(before <= after for before, after in zip(*sides, strict=True))


def test_broken_lines_are_left_out_where_that_is_asked(pairs, tmp_path):
    lines = [json.dumps({"en": a, "ne": b}).encode() for a, b in sentences(60)]
    path = tmp_path / "broken.jsonl"
    path.write_bytes(
        b"\n".join([lines[0], b'{"en": "caf\xe9"}', b"[]", b'{"en": "x', *lines[1:], b'{"en": "x", "ne": ""}'])
    )
    with pytest.raises(DataError, match=r"byte \d+, line 2.*; 4 of the 64 lines of"):
        prepare(Pairs(**{**vars(pairs), "source": str(path)}))
    left = prepare(Pairs(**{**vars(pairs), "source": str(path), "broken": "skip"}))
    assert sum(left.counts) == 60 and left.fingerprint == prepare(pairs).fingerprint


def test_a_text_held_out_is_never_trained_on(pairs, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps({"en": a, "ne": b}) + "\n" for a, b in sentences(30) * 3))
    prepared = prepare(Pairs(**{**vars(pairs), "source": str(path)}))
    held = prepared.held_out(FORM)
    held_out = set(texts(prepared, held.batch(np.arange(len(held)))["input_ids"]))
    training = prepared.training(FORM, 0)
    assert held_out and not held_out & set(texts(prepared, training.batch(np.arange(len(training)))["input_ids"]))


BAD = {
    "no file": ("pairs.jsonl", None, "there is no"),
    "no pair": ("pairs.jsonl", "", "holds no pair"),
    "no column": ("pairs.tsv", "en\tde\na\tb\n", r"pairs.tsv, line 2 has no text 'ne', but en, de"),
    "a short line": ("pairs.tsv", "en\tne\na\tb\nc\n", "line 3 has no text 'ne'"),
    "one side empty": ("pairs.jsonl", '{"en": "a", "ne": "b"}\n{"en": "a", "ne": " "}\n', "line 2: 'ne' is empty"),
    "no object": ("pairs.jsonl", '["a", "b"]\n', "line 1: expected an object"),
    "no JSON": ("pairs.jsonl", "a\tb\n", "no JSON on every line"),
    "another kind": ("pairs.csv", "a,b\n", "neither .tsv nor .jsonl"),
    "bytes": ("pairs.tsv", b"en\tne\n\xff\tb\n", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(pairs, tmp_path, case):
    name, content, said = BAD[case]
    path = tmp_path / "bad" / name
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said):
        prepare(Pairs(**{**vars(pairs), "source": str(path)}))
    path.unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"holds no .tsv and no .jsonl"):
        prepare(Pairs(**{**vars(pairs), "source": str(path.parent)}))


def test_fields_of_any_length_with_any_byte_order_mark(tmp_path):
    long = "word " * 60_000
    (tmp_path / "pairs.tsv").write_bytes(f"\ufeffen\tne\r\n{long}\ta\rb \u2028 c\r\n\r\nd\te".encode())
    (tmp_path / "pairs.jsonl").write_bytes("\ufeff".encode() + json.dumps({"en": long, "ne": "b"}).encode() + b"\r\n")
    for name, expected in (("pairs.tsv", [(long, "a\rb \u2028 c"), ("d", "e")]), ("pairs.jsonl", [(long, "b")])):
        sides = open_pairs(str(tmp_path / name), ("en", "ne"), Look(cache=tmp_path / "cache"))
        assert [tuple(side[i]["text"] for side in sides) for i in range(len(sides[0]))] == expected
