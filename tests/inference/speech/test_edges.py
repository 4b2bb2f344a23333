"""Times of segments beside what sounds, with silences written out."""

import dataclasses

import pytest

from inference.speech.edges import cut, reaching, spanned, within_sound
from inference.speech.words import Word

SILENCES = [(0, 100), (250, 400), (450, 475), (600, 900)]  # frames of 10 ms


@dataclasses.dataclass(frozen=True)
class Part:
    start: float
    end: float
    text: str = ""
    tokens: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()


def part(start: float, end: float) -> Part:
    return Part(start, end)


def text(tokens) -> str:
    return "".join(f" {token}" for token in tokens)


def test_times_do_not_lie_in_silence() -> None:
    assert within_sound(0.5, 2.7, SILENCES) == dict(start=1.0, end=2.5)
    assert within_sound(1.2, 2.4, SILENCES) == dict(start=1.2, end=2.4)
    assert within_sound(2.6, 3.9, SILENCES) == dict(start=2.6, end=3.9)  # silence altogether: left as it is


def test_short_silences_are_not_cut_at() -> None:
    assert spanned(1.2, 5.9, SILENCES) == [(2.5, 4.0)]
    assert spanned(1.2, 3.4, SILENCES) == []  # 0.9 s of it
    assert spanned(1.2, 9.5, SILENCES) == [(2.5, 4.0), (6.0, 9.0)]


def test_a_segment_is_cut_where_its_words_part() -> None:
    words = [Word(f" {n}", (n,), *times, 1.0) for n, times in enumerate([(1.1, 1.5), (1.5, 2.6), (3.9, 4.4)], 1)]
    parts = cut(part(1.2, 4.5), words, SILENCES, text)
    assert [(one.start, one.end, one.text, one.tokens) for one in parts] == [
        (1.1, 2.5, " 1 2", (1, 2)),
        (4.0, 4.5, " 3", (3,)),
    ]
    assert all(one.words == () for one in parts)
    kept = cut(dataclasses.replace(part(1.2, 4.5), words=tuple(words)), words, SILENCES, text)
    assert [one.words for one in kept] == [tuple(words[:2]), tuple(words[2:])]


def test_silence_without_words_behind_it_is_not_the_segments() -> None:
    words = [Word(" 1", (1,), 4.6, 5.8, 1.0)]
    (one,) = cut(part(2.0, 9.4), words, SILENCES, text)  # a start and an end that the model has guessed
    assert (one.start, one.end) == (4.0, 6.0)
    assert cut(part(4.1, 5.0), words, SILENCES, text) == [part(4.1, 5.0)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([(1.3, 2.2)], [(1.0, 2.5)]),  # as far as the silence on either side
        ([(1.3, 1.6), (1.8, 2.2)], [(1.0, 1.6), (1.8, 2.5)]),  # what lies between two is nobody's
        ([(5.5, 5.9)], [(4.75, 6.0)]),
        ([(4.1, 5.9)], [(4.0, 6.0)]),
        ([(9.9, 11.0)], [(9.0, 11.0)]),  # no silence behind it
        ([(10.1, 11.0)], [(10.1, 11.0)]),  # too far away
    ],
)
def test_segments_reach_as_far_as_what_sounds(given, found) -> None:
    parts = reaching([part(*times) for times in given], SILENCES)
    assert [(one.start, one.end) for one in parts] == found


def test_words_reach_as_far_as_their_segment() -> None:
    words = tuple(Word(" a", (1,), *times, 1.0) for times in ((1.3, 1.5), (1.5, 2.2)))
    (one,) = reaching([dataclasses.replace(part(1.3, 2.2), words=words)], SILENCES)
    assert [(word.start, word.end) for word in one.words] == [(1.0, 1.5), (1.5, 2.5)]
