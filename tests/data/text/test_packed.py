"""Packed text against documents joined in a list, and what must hold of it whatever the lengths."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError
from data.forms import TextForm
from data.text.packed import Packed
from data.text.templates import TEMPLATES
from data.text.tokenizers import train_tokenizer
from tests.data.text.test_windows import make_corpus, make_documents, random_lengths, rebuilt

EOS = 3
FRAMES = {
    "BERT's": ("[CLS] $A [SEP]", [2], [3]),
    "GPT-2's": ("$A", [], [EOS]),
    "Llama's": ("[CLS] $A", [2], [EOS]),
    "mBART's": ("$A [SEP] [MASK]", [], [3, 4]),
    "long": ("[CLS] [MASK] [PAD] $A [SEP] [MASK]", [2, 4, 0], [3, 4]),
}
"""A template, and what stands before and behind a document of packed text."""


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = {}
    for name, (single, _, _) in FRAMES.items():
        files[name] = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
        template = dataclasses.replace(TEMPLATES["bert"], single=single)
        train_tokenizer(["some words"] * 3, vocab_size=40, template=template, path=files[name])
    return files


@pytest.fixture(scope="session")
def tokenizer_file(tokenizer_files) -> Path:
    return tokenizer_files["BERT's"]


def joined(documents, ids, begin=(), end=(EOS,)) -> tuple[list[int], list[int]]:
    """All tokens of the documents that have some, each document in its frame, and the document of each token."""
    tokens, owners = [], []
    for number, document in enumerate(d for d in (documents[i] for i in sorted(ids)) if d):
        text = [*begin, *(token for sentence in document for token in sentence), *end]
        tokens += text
        owners += [number] * len(text)
    return tokens, owners


@given(
    seed=st.integers(0, 10_000),
    length=st.integers(1, 40),
    overlap=st.integers(0, 1),
    ids=st.sets(st.integers(0, 12), min_size=1),
    frame=st.sampled_from(sorted(FRAMES)),
)
@settings(max_examples=60, deadline=None)
def test_pieces_are_the_joined_text(
    seed: int, length: int, overlap: int, ids: set[int], frame: str, tokenizer_files: dict[str, Path]
) -> None:
    documents = make_documents(random_lengths(seed, longest=12))
    tokens, owners = joined(documents, {*ids, 12}, *FRAMES[frame][1:])
    length += overlap
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(documents, Path(folder), tokenizer_files[frame])
        packed = Packed(corpus, np.array(sorted({*ids, 12})), form=TextForm(raw=length, overlap=overlap), seed=3)
        pieces = packed.in_order().batch(np.arange(len(packed)))
        shuffled = packed.batch(np.arange(len(packed), 2 * len(packed)))
    stride = length - overlap
    for number, (piece, owner) in enumerate(zip(pieces["tokens"], pieces["document_ids"], strict=True)):
        expected = tokens[number * stride : number * stride + length]
        assert piece[: len(expected)].tolist() == expected
        assert owner.tolist() == owners[number * stride : number * stride + length] + [-1] * (length - len(expected))
    asked = [
        row[overlap:][ids_[overlap:] >= 0] for row, ids_ in zip(pieces["tokens"], pieces["document_ids"], strict=True)
    ]
    assert np.concatenate(asked).tolist() == tokens[overlap:], "every token is asked for once"
    assert sorted(map(tuple, shuffled["tokens"])) == sorted(map(tuple, pieces["tokens"])), (
        "an epoch has each piece once"
    )


def test_an_example_is_a_function_of_seed_and_place(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents(random_lengths(1)), tmp_path, tokenizer_file)
    one, again, other = (
        Packed(corpus, np.arange(13), form=TextForm(raw=9, overlap=1), seed=seed) for seed in (1, 1, 2)
    )
    places = np.arange(2 * len(one))
    batch = one.batch(places)
    np.testing.assert_array_equal(batch["tokens"], rebuilt(again).batch(places)["tokens"])
    assert (batch["tokens"] != other.batch(places)["tokens"]).any()
    for place in (0, 5, len(one) + 3):
        for name, array in one[place].items():
            np.testing.assert_array_equal(array, batch[name][place])
    assert [batch[name].dtype for name in ("index", "tokens", "document_ids")] == [np.uint32, np.int32, np.int32]
    with pytest.raises(IndexError):
        one.in_order().batch(np.array([len(one)]))


def test_what_is_of_no_use_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents([[3], []]), tmp_path, tokenizer_file)
    with pytest.raises(DataError, match="cannot share 4"):
        Packed(corpus, np.array([0]), form=TextForm(raw=4, overlap=4))
    with pytest.raises(DataError, match="hold no token"):
        Packed(corpus, np.array([1]), form=TextForm(raw=4))
