"""The split: each text decides for itself, nothing leaks, and a small source keeps something on either side."""

import numpy as np
import pytest

from data import DataError
from data.contents import content_hash
from data.text.documents import Documents, split_documents


def documents_of(texts: list[str]) -> Documents:
    hashes = np.array([content_hash(text.encode()) for text in texts], np.uint64)
    sizes = np.array([len(text) for text in texts], np.int64)
    return Documents([{"title": str(index), "text": text} for index, text in enumerate(texts)], "texts", hashes, sizes)


def split(texts: list[str], held_out: float, seed: int = 0) -> tuple[list[str], list[str]]:
    train, held = split_documents(documents_of(texts), held_out, seed)
    assert sorted([*train, *held]) == list(range(len(texts)))
    assert len(train) and len(held)
    return [texts[index] for index in train], [texts[index] for index in held]


@pytest.mark.parametrize("held_out", [0.05, 0.1, 0.5])
def test_one_more_document_moves_no_other(held_out: float) -> None:
    texts = [f"This is document {index}, of its own length. " * (index % 7 + 1) for index in range(110)]
    for seed in range(5):
        before, after = (split(texts[:count], held_out, seed) for count in (100, 110))
        assert set(before[0]) <= set(after[0]) and set(before[1]) <= set(after[1])
        turned = split(texts[::-1], held_out, seed)
        assert (set(turned[0]), set(turned[1])) == (set(after[0]), set(after[1]))


@pytest.mark.parametrize("held_out", [0.01, 0.1, 0.5, 0.8])
def test_as_much_is_held_out_as_was_asked(held_out: float) -> None:
    texts = [f"text {index} " * (index % 50 + 1) for index in range(10_000)]
    _, held = split(texts, held_out)
    assert len(held) / len(texts) == pytest.approx(held_out, rel=0.15)
    assert sum(map(len, held)) / sum(map(len, texts)) == pytest.approx(held_out, rel=0.15)


def test_a_text_that_comes_several_times_is_on_one_side() -> None:
    texts = [f"text {index % 60}" for index in range(100)]  # 40 of them come twice
    splits = [split(texts, 0.2, seed) for seed in range(20)]
    assert not any(set(train) & set(held) for train, held in splits)
    assert len({frozenset(held) for _, held in splits}) == 20  # each seed has a split of its own


@pytest.mark.parametrize("held_out", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("lengths", [[10, 10], [10, 10, 10], [1, 5000, 5000, 5000], [9000, *[10] * 30], [5, 90_000]])
def test_either_side_of_a_small_source_has_something_of_use(held_out: float, lengths: list[int]) -> None:
    texts = [f"{index} ".ljust(length, "x") for index, length in enumerate(lengths)]
    total = sum(map(len, texts))
    for seed in range(100):
        train, held = (sum(map(len, side)) for side in split(texts, held_out, seed))
        if max(lengths) <= total / 2:
            assert held >= held_out * total / 4 and train >= (1 - held_out) * total / 4
        else:
            assert train >= max(lengths)  # what is most of the text is trained on


def test_a_split_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        split_documents(documents_of(["one"]), 0.5, 0)
    for held_out in (0.0, 1.0):
        with pytest.raises(DataError, match="between 0 and 1"):
            split_documents(documents_of(["one", "two"]), held_out, 0)
    with pytest.raises(DataError, match="are all the same"):
        split_documents(documents_of(["one", "one"]), 0.5, 0)
