"""Pairs of texts with a label, labels that are numbers, tokenizers without a pad token, and rows that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import TextForm
from data.text.labelled import LabelledText, both_kept
from models.bert import BertConfig
from models.gpt2 import GPT2Config
from tests.data.images.samples import write_tfds
from tests.data.text.test_labelled import WORDS, prepare, source

FORM = TextForm(16, reads=("labels",))


def pairs(count: int) -> list[tuple[str, str, float]]:
    """Two texts of 1 to 11 words, and a number from 0 to 5."""
    random = np.random.default_rng(0)
    words = [" ".join(random.choice(WORDS, random.integers(1, 12))) for _ in range(2 * count)]
    return [(f"{one} {n}", f"{other} {n}", n % 11 / 2) for n, (one, other) in enumerate(zip(*[iter(words)] * 2))]  # noqa: B905


def write(path: Path, rows: list[tuple[str, str, float]]) -> Path:
    path.write_text("\n".join(json.dumps({"one": a, "other": b, "score": c}) for a, b, c in rows))
    return path


@pytest.fixture
def numbers(tmp_path: Path) -> LabelledText:
    place = write(tmp_path / "pairs.jsonl", pairs(60))
    return source(tmp_path, place, features=("one", "other", "score"), numbers=True)


def popped(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """BERT's released truncation, token by token."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_the_longer_text_loses_its_end_first() -> None:
    for first in range(9):
        for second in range(9):
            for room in range(2, 12):
                expected = tuple(map(len, popped([0] * first, [0] * second, room)))
                assert both_kept(first, second, room) == expected, (first, second, room)


def test_pairs_stand_in_the_frame_of_the_tokenizer_with_their_types(numbers: LabelledText) -> None:
    prepared = prepare(numbers)
    tokenizer, framing = prepared.tokenizer, prepared.vocabulary.framing
    examples = prepared.training(FORM, 0).in_order()
    batch, cut = examples.batch(np.arange(len(examples))), 0
    rows = [pairs(60)[item] for item in prepared.training_items]
    assert {name: x.dtype for name, x in batch.items()}["labels"] == np.float32
    for row, (one, other, score) in enumerate(rows):
        sides = [tokenizer.encode(text, add_special_tokens=False).ids for text in (one, other)]
        kept = popped(*sides, 16 - framing.pair_count)
        ids = framing.pair(*kept)
        assert batch["input_ids"][row].tolist() == ids + [prepared.vocabulary.pad] * (16 - len(ids))
        assert batch["attention_mask"][row].sum() == len(ids) and batch["labels"][row] == np.float32(score)
        if kept == tuple(sides):
            assert batch["token_type_ids"][row][: len(ids)].tolist() == tokenizer.encode(one, other).type_ids
        cut += kept != tuple(sides)
    assert 10 < cut < len(rows)
    np.testing.assert_array_equal(np.minimum(examples.sizes, 16), batch["attention_mask"].sum(1))


def test_a_regression_goes_into_the_config_and_out_of_it(numbers: LabelledText, tmp_path: Path) -> None:
    config = prepare(numbers).adapt(BertConfig(vocab_size=400))
    assert config.problem_type == "regression" and config.labels == ("LABEL_0",)
    (tmp_path / "t.tsv").write_text("text\tlabel\nred\tham\nblue\tspam\ngreen\tham\nold\tspam\n")
    classes = prepare(source(tmp_path, tmp_path / "t.tsv")).adapt(config)
    assert classes.problem_type is None and classes.labels == ("ham", "spam")
    assert numbers.survey(lambda done, count: None).counts["labels"].startswith("from 0 to 5")


def test_blank_pairs_look_like_real_ones(numbers: LabelledText) -> None:
    blank, real = numbers.outline(400).training(FORM, 3)[0], prepare(numbers).training(FORM, 3)[5]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in real.items()}


def test_glue_is_read_as_tfds_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets.text  # noqa: F401 - registers glue

    def rows(seed: int) -> list[dict]:
        return [{"sentence1": a, "sentence2": b, "label": c, "idx": n + seed} for n, (a, b, c) in enumerate(pairs(20))]

    write_tfds("glue/stsb", tmp_path, {"train": rows(0), "validation": rows(1)}, monkeypatch)
    features = ("sentence1", "sentence2", "label")
    prepared = prepare(source(tmp_path, "glue/stsb", features=features, numbers=True))
    assert prepared.counts == (20, 20) and prepared.labels.dtype == np.float32 and prepared.labels.max() == 5
    with pytest.raises(DataError, match=r"no label of a class; set --data\.numbers"):
        prepare(source(tmp_path, "glue/stsb", features=features))


def test_what_ends_a_text_pads_where_the_tokenizer_has_no_pad(tmp_path: Path) -> None:
    rows = "".join(f"{one}\t{'ab'[n % 2]}\n" for n, (one, _, _) in enumerate(pairs(40)))
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + rows)
    prepared = prepare(source(tmp_path, tmp_path / "t.tsv", kind="byte_bpe", template="gpt2"))
    end = prepared.vocabulary.eos
    assert prepared.vocabulary.pad == end is not None
    config = prepared.adapt(GPT2Config(vocab_size=400, bos_token_id=end, eos_token_id=end))
    assert config.pad_token_id == end
    (tmp_path / "run").mkdir()
    prepared.save(tmp_path / "run", FORM)
    again = source(tmp_path, tmp_path / "t.tsv", tokenizer=str(tmp_path / "run/tokenizer.json"))
    assert prepare(again).vocabulary.pad == end


@pytest.mark.parametrize(
    "content, settings, message",
    [
        ("text\tlabel\nred\tham\textra\n", {}, "line 2 has 3 columns, and the first line names 2"),
        ("text\tlabel\nred\t\n", {}, "line 2: 'label' is empty"),
        ("text\tlabel\n \tham\n", {}, "line 2: 'text' is empty"),
        ("text\tlabel\nred\tham\nblue\tham \n", {}, "names one label in two ways, 'ham' and 'ham '"),
        ("text\tlabel\nred\t0.5\nblue\tmuch\n", {"numbers": True}, "line 3: 'label' is 'much', expected a number"),
        ("text\tlabel\nred\t0.5\nblue\tnan\n", {"numbers": True}, "line 3: 'label' is 'nan', expected a number"),
        (
            "text\tlabel\nred\tham\n",
            {"features": ("label",)},
            "expected the names of a text, or of two, and of the label",
        ),
    ],
)
def test_rows_that_are_none_are_a_sentence(content: str, settings: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        prepare(source(tmp_path, tmp_path / "t.tsv", **settings))


def test_class_folders_hold_neither_pairs_nor_numbers(tmp_path: Path) -> None:
    (tmp_path / "s/a").mkdir(parents=True)
    with pytest.raises(DataError, match="hold no numbers"):
        prepare(source(tmp_path, tmp_path / "s", numbers=True))
    with pytest.raises(DataError, match="hold no pairs of texts"):
        prepare(source(tmp_path, tmp_path / "s", features=("one", "other", "label")))
