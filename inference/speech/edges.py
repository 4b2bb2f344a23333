"""Corrects the start and end times of segments by the silences of a recording: a model rounds times, and guesses some.

Silences are those of `inference.speech.transcription.silences`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from data.audio.log_mel import HOP, SAMPLING_RATE
from inference.speech.words import Word

SECOND = SAMPLING_RATE // HOP
"""Frames of a spectrogram per second."""
CUT = 1.0
"""Seconds of silence within a segment at which it is split."""
REACH = 1.0
"""Seconds of sound beside a silence, covered by no segment, that are added to the nearest one."""

Silences = Sequence[tuple[int, int]]
Placed = TypeVar("Placed")
"""A dataclass with a start and an end in seconds, and words."""


def within_sound(start: float, end: float, silences: Silences) -> dict[str, float]:
    """Moves times out of silences: a start to the end of the silence, an end to its beginning."""
    begun, ended = start, end
    for begin, stop in silences:
        begun = stop / SECOND if begin / SECOND <= begun < stop / SECOND else begun
        ended = begin / SECOND if begin / SECOND < ended <= stop / SECOND else ended
    return dict(start=begun, end=ended) if begun < ended else dict(start=start, end=end)


def spanned(start: float, end: float, silences: Silences) -> list[tuple[float, float]]:
    """The silences, in seconds, of which a stretch covers at least `CUT` seconds."""
    edges = [(begin / SECOND, stop / SECOND) for begin, stop in silences]
    return [(begin, stop) for begin, stop in edges if min(stop, end) - max(begin, start) >= CUT]


def cut(
    segment: Placed, words: Sequence[Word], silences: Silences, text: Callable[[Sequence[int]], str]
) -> list[Placed]:
    """Splits a segment at the silences that it spans.

    Args:
        words: words of the segment, with their times in the recording.
        text: decodes tokens.
    """
    gaps = spanned(segment.start, segment.end, silences)
    if not gaps or not words:
        return [segment]
    behind = [sum((word.start + word.end) / 2 > (begin + stop) / 2 for begin, stop in gaps) for word in words]
    parts = []
    for place, group in itertools.groupby(range(len(words)), behind.__getitem__):
        members = [words[number] for number in group]
        start = gaps[place - 1][1] if place else min(segment.start, members[0].start)
        end = gaps[place][0] if place < len(gaps) else segment.end
        tokens = tuple(itertools.chain.from_iterable(word.tokens for word in members))
        times = dict(start=start, end=end) if start < end else dict(start=members[0].start, end=members[-1].end)
        kept = tuple(members) if segment.words else ()
        parts.append(dataclasses.replace(segment, text=text(tokens), tokens=tokens, words=kept, **times))
    return parts


def reaching(segments: Sequence[Placed], silences: Silences) -> list[Placed]:
    """Extends segments, and their first and last words, to the silences beside them, if no other segment lies between."""
    begins = [begin / SECOND for begin, _ in silences]
    stops = [stop / SECOND for _, stop in silences]
    found = []
    for number, segment in enumerate(segments):
        before = segments[number - 1].end if number else 0.0
        behind = segments[number + 1].start if number + 1 < len(segments) else float("inf")
        start = max((stop for stop in stops if before <= stop <= segment.start), default=-float("inf"))
        end = min((begin for begin in begins if segment.end <= begin <= behind), default=float("inf"))
        start = start if segment.start - start <= REACH else segment.start
        end = end if end - segment.end <= REACH else segment.end
        words = segment.words
        if words:
            words = (dataclasses.replace(words[0], start=start), *words[1:])
            words = (*words[:-1], dataclasses.replace(words[-1], end=end))
        found.append(dataclasses.replace(segment, start=start, end=end, words=words))
    return found
