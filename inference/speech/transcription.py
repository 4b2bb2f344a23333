"""Transcription of recordings of any length: each window begins where the last whole segment of the one before it ends.

The order of the steps and the thresholds are those of the authors' `transcribe`, with three differences: recordings are cut at
silences of two seconds or more, which are not decoded; times are corrected by silences (`inference.speech.edges`); and several
recordings are decoded at a time.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import HOP
from inference.speech.edges import SECOND, cut, reaching, spanned, within_sound
from inference.speech.listener import Decoding, Heard, Listener
from inference.speech.words import Word, timed

QUIET = 10 ** (-55 / 20)
"""Root mean square of a frame below which it is silent, full scale being 1: -55 dB."""
PAUSE, MARGIN, SHORTEST = 2 * SECOND, SECOND // 10, SECOND // 5
"""Frames of silence: at which a recording is cut, that stay on both sides of sound, and in which no segment ends."""
TOGETHER = 8
"""Recordings that are decoded at a time."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A transcribed stretch of a recording, from `start` to `end` in seconds."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    heard: Heard
    words: tuple[Word, ...] = ()


@dataclasses.dataclass(frozen=True)
class Transcript:
    """The transcript of a recording."""

    text: str
    segments: tuple[Segment, ...]
    language: str | None


def silences(waveform: Float32[np.ndarray, " samples"]) -> list[tuple[int, int]]:
    """(first, last) frames of silences of 0.2 s or more; all frames of a silent recording."""
    frames = -(-len(waveform) // HOP)
    rows = np.pad(waveform, (0, frames * HOP - len(waveform))).reshape(frames, HOP)
    loud = np.flatnonzero(np.sqrt((rows.astype(np.float64) ** 2).mean(axis=1)) >= QUIET)
    if not len(loud):
        return [(0, frames)]
    edges = itertools.pairwise([-1, *loud.tolist(), frames])
    return [(before + 1, behind) for before, behind in edges if behind - before - 1 >= SHORTEST]


def sounding(frames: int, gaps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(first, last) frames of the parts to decode: all but silences of two seconds or more."""
    gaps = [(begin, end) for begin, end in gaps if end - begin >= min(PAUSE, frames)]
    begins = [0, *(end - MARGIN for _, end in gaps)]
    ends = [*(begin + MARGIN for begin, _ in gaps), frames]
    return [
        (begin, end)
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True))
        if not (number == 0 and gaps and gaps[0][0] == 0) and not (number == len(gaps) > 0 and gaps[-1][1] == frames)
    ]


class Recording:
    """State of the transcription of a recording.

    Attributes:
        seek: first frame of the next window.
        before: tokens so far, the last of which may prompt a window.
    """

    def __init__(self, waveform: Float32[np.ndarray, " samples"], extractor: SpectrogramExtractor, timestamps: bool):
        self.frames = -(-len(waveform) // HOP)
        self.silences = silences(waveform)
        self.clips = sounding(self.frames, self.silences) if self.frames else []
        self.window = extractor.frames
        self.timestamps = timestamps or self.frames > self.window
        self.spectrogram = extractor(waveform) if self.clips else None
        self.seek = self.clips[0][0] if self.clips else self.frames
        self.before: list[int] = []
        self.segments: list[Segment] = []
        self.language: str | None = None

    @property
    def is_done(self) -> bool:
        return not self.clips

    @property
    def size(self) -> int:
        """Frames of the recording in the next window."""
        return min(self.window, self.clips[0][1] - self.seek)

    def features(self) -> Float32[np.ndarray, "frames mels"]:
        """The spectrogram of the next window, padded with silence."""
        rows = np.full((self.window, self.spectrogram.shape[1]), self.spectrogram.min(), np.float32)
        rows[: self.size] = self.spectrogram[self.seek : self.seek + self.size]
        return rows

    def take(self, heard: Heard, listener: Listener, decoding: Decoding) -> list[Segment]:
        """Adds the text of a window, and moves to the end of its last whole segment. Returns the new segments."""
        if heard.is_silence(decoding):
            self.move(self.seek + self.size)
            return []
        segments, moved = self._segments(heard, listener)
        segments = [dataclasses.replace(one, **within_sound(one.start, one.end, self.silences)) for one in segments]
        segments = [segment for segment in segments if segment.text.strip() and segment.start != segment.end]
        self.segments += segments
        trusted = decoding.condition_on_previous_text and heard.temperature <= 0.5
        written = [token for segment in segments for token in segment.tokens]
        self.before = [*self.before, *written] if trusted else []
        self.move(self.seek + (moved or self.size))
        return segments

    def transcript(self, timestamps: bool) -> Transcript:
        """The whole transcript."""
        text = "".join(segment.text for segment in self.segments)
        segments = reaching(self.segments, self.silences) if timestamps else self.segments
        return Transcript(text, tuple(segments), self.language)

    def move(self, seek: int) -> None:
        """Moves to a frame, or to the next part if this one is over."""
        self.seek = seek
        if self.seek >= self.clips[0][1]:
            self.clips = self.clips[1:]
            self.seek = self.clips[0][0] if self.clips else self.frames

    def _segments(self, heard: Heard, listener: Listener) -> tuple[list[Segment], int]:
        """The segments of a window, and the frames that they cover: all, unless the last segment is cut off."""
        tokens, special, offset = heard.tokens, listener.tokens, self.seek / SECOND

        def segment(part: Sequence[int], start: float, end: float) -> Segment:
            return Segment(offset + start, offset + end, listener.text(part), tuple(part), heard)

        times = [special.is_time(token) for token in tokens]
        pairs = [place for place in range(1, len(tokens)) if times[place - 1] and times[place]]
        ends_once = times[-2:] == [False, True]
        if not pairs:
            stamps = [token for token, is_time in zip(tokens, times, strict=True) if is_time]
            end = special.seconds(stamps[-1]) if stamps and stamps[-1] != special.time_zero else self.size / SECOND
            return [segment(tokens, 0.0, end)], self.size
        edges = [0, *pairs, *([len(tokens)] if ends_once else [])]
        parts = [tokens[begin:end] for begin, end in itertools.pairwise(edges)]
        segments = [segment(part, special.seconds(part[0]), special.seconds(part[-1])) for part in parts]
        return segments, self.size if ends_once else round(special.seconds(parts[-1][-1]) * SECOND)


def transcribe(
    listener: Listener,
    extractor: SpectrogramExtractor,
    waveforms: Sequence[Float32[np.ndarray, " samples"]],
    decoding: Decoding | None = None,
    *,
    timestamps: Literal[False, True, "word"] = False,
    first: int = 0,
    on_progress: Callable[[float], Any] | None = None,
) -> list[Transcript]:
    """Transcribes recordings at 16 kHz.

    Args:
        timestamps: whether to return segments, or their words, too. A recording longer than a window always has segments.
        first: index of the first recording in a longer list, for the sampling keys.
        on_progress: called with the seconds covered by each window.

    Raises:
        ModelError: the model does not know the language or the task.
    """
    decoding, tokens = decoding or Decoding(), listener.tokens
    language = None if decoding.language is None else tokens.language_named(decoding.language)
    tokens.prompt(language or next(iter(tokens.languages), None), decoding.task, bool(timestamps))  # or refused
    recordings = [Recording(waveform, extractor, bool(timestamps)) for waveform in waveforms]
    for recording in recordings:
        recording.language = language
        if on_progress is not None:
            on_progress(recording.seek / SECOND)  # a pause that it begins with
    for numbers in windows(recordings):
        heard = listen(listener, {first + number: recordings[number] for number in numbers}, decoding)
        for number, one in zip(numbers, heard, strict=True):
            recording = recordings[number]
            began, size, features, count = recording.seek, recording.size, recording.features(), len(recording.segments)
            new = recording.take(one, listener, decoding)
            cutting = any(spanned(each.start, each.end, recording.silences) for each in new)
            if new and (timestamps == "word" or (timestamps and cutting)):
                worded = with_words(listener, features[None], size, began, new, recording)
                recording.segments[count:] = placed(worded, new, listener, recording, keep=timestamps == "word")
            if on_progress is not None:
                on_progress((recording.seek - began) / SECOND)
    return [one.transcript(bool(timestamps)) for one in recordings]


def windows(recordings: Sequence[Recording]) -> Iterator[list[int]]:
    """Indices of the recordings to decode next: some that are not done, all with timestamps or all without."""
    while waiting := [number for number, one in enumerate(recordings) if not one.is_done]:
        stamped = recordings[waiting[0]].timestamps
        yield [number for number in waiting if recordings[number].timestamps == stamped][:TOGETHER]


def listen(listener: Listener, recordings: Mapping[int, Recording], decoding: Decoding) -> list[Heard]:
    """Decodes the next window of each recording."""
    key, tokens = jax.random.key(decoding.seed), listener.tokens
    memory = listener.encode(np.stack([recording.features() for recording in recordings.values()]))
    if any(recording.language is None for recording in recordings.values()):
        for recording, language in zip(recordings.values(), listener.languages(memory, len(recordings)), strict=True):
            recording.language = recording.language or language
    prompts, begun, keys = [], [], []
    for number, recording in recordings.items():
        before = tokens.before(recording.before, listener.most_before)
        prompts.append(before + tokens.prompt(recording.language, decoding.task, recording.timestamps))
        begun.append([*before, tokens.start])
        keys.append(jax.random.fold_in(jax.random.fold_in(key, number), recording.seek))
    stamped = next(iter(recordings.values())).timestamps
    return listener.decode(memory, prompts, begun, jnp.stack(keys), stamped, decoding)


def placed(
    worded: Sequence[Segment], segments: Sequence[Segment], listener: Listener, recording: Recording, keep: bool
) -> list[Segment]:
    """The segments of a window, split at the silences that they span.

    Args:
        worded: the same segments with their words.
        keep: whether to keep the words.
    """
    parts: list[Segment] = []
    for one, segment in zip(worded, segments, strict=True):
        parts += cut(one if keep else segment, one.words, recording.silences, listener.text)
    return parts


def with_words(
    listener: Listener,
    features: Float32[np.ndarray, "1 frames mels"],
    size: int,
    seek: int,
    segments: Sequence[Segment],
    recording: Recording,
) -> list[Segment]:
    """The segments of a window with their words, whose times begin and end them."""
    words = timed(listener, features, size, [segment.tokens for segment in segments], recording.language)
    found, offset = [], seek / SECOND
    for segment, own in zip(segments, words, strict=True):
        own = [word.later(offset) for word in own]
        own = tuple(dataclasses.replace(word, **within_sound(word.start, word.end, recording.silences)) for word in own)
        times = dict(start=own[0].start, end=own[-1].end) if own else {}
        found.append(dataclasses.replace(segment, words=own, **times))
    return found
