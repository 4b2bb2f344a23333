"""Times of words: the cheapest path, what is one word, and where its times come from."""

import itertools

import numpy as np
import pytest

from inference.speech.words import Word, by_segment, joined_to_words, shortened, smoothed, split, warped
from tests.inference.speech.scripted import Scripted, ids


def cheapest(costs: np.ndarray) -> float:
    """Of all paths, one by one."""
    rows, places = costs.shape

    def from_here(i: int, j: int) -> float:
        if (i, j) == (rows - 1, places - 1):
            return costs[i, j]
        steps = [(i + a, j + b) for a, b in ((1, 1), (1, 0), (0, 1)) if i + a < rows and j + b < places]
        return costs[i, j] + min(itertools.starmap(from_here, steps))

    return from_here(0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 6), (5, 4)])
def test_the_path_is_the_cheapest(shape):
    for seed in range(5):
        costs = np.random.default_rng(seed).normal(size=shape)
        rows, places = warped(costs)
        assert (rows[0], places[0], rows[-1], places[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
        steps = set(zip(np.diff(rows).tolist(), np.diff(places).tolist(), strict=True))
        assert steps <= {(1, 1), (1, 0), (0, 1)}
        assert costs[rows, places].sum() == pytest.approx(cheapest(costs))


def test_a_clear_alignment_is_followed():
    costs = np.ones((3, 9))
    for row, (begin, end) in enumerate([(0, 2), (2, 7), (7, 9)]):
        costs[row, begin:end] = 0
    rows, places = warped(costs)
    assert places[np.diff(rows, prepend=-1) > 0].tolist() == [0, 2, 7]


def test_the_median_of_places():
    weights = np.array([[[5.0, 1, 4, 2, 9, 3, 8]]])
    padded = [4, 1, 5, 1, 4, 2, 9, 3, 8, 3, 9]
    expected = [sorted(padded[place : place + 5])[2] for place in range(7)]
    assert smoothed(weights, 5)[0, 0].tolist() == expected


def test_words_begin_at_spaces_and_at_punctuation():
    listener = Scripted.of_script()
    words = split(listener, ids(" ab cd, e."), "en")
    assert [word for word, _ in words] == [" ab", " cd", ",", " e", "."]
    assert [token for _, tokens in words for token in tokens] == ids(" ab cd, e.")
    assert [word for word, _ in split(listener, ids("ab"), "ja")] == ["a", "b"]


def words(*texts: str) -> list[Word]:
    return [Word(text, (place,), float(place), place + 1.0, 0.5) for place, text in enumerate(texts)]


def test_punctuation_is_joined_to_its_word():
    found = joined_to_words(words(" a", ",", " (", "b", ")", ".", " c"))
    assert [word.text for word in found] == [" a,", " (b).", " c"]
    assert [word.tokens for word in found] == [(0, 1), (2, 3, 4, 5), (6,)]
    assert [(word.start, word.end) for word in found] == [(0.0, 1.0), (3.0, 4.0), (6.0, 7.0)]


def test_the_pause_behind_a_sentence_belongs_to_no_word():
    times = [(0.0, 0.3), (0.3, 0.6), (0.6, 3.0), (3.0, 6.0)]
    texts = [" a", " b", ".", " c"]
    given = [Word(text, (0,), *time, 1.0) for text, time in zip(texts, times, strict=True)]
    found = shortened(given)
    assert found[2].end == pytest.approx(0.6 + 1.4) and found[3].start == pytest.approx(6.0 - 1.4)


def test_words_of_segments():
    given = [Word("a", (1, 2), 0, 1, 1), Word("b", (3,), 1, 2, 1), Word("c", (4, 5), 2, 3, 1)]
    found = by_segment(given, [[1, 2, 3], [], [4, 5]])
    assert [[word.text for word in segment] for segment in found] == [["a", "b"], [], ["c"]]
