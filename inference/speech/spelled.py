"""Speech recognition with a CTC model: a token for each frame."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.audio.characters import Characters
from data.audio.reading import Waveform
from inference.ctc import Run, aligned, beam_search, greedy, log_softmax, nothing_known
from inference.readers.waveform import FRAMES, WaveformReader
from inference.scores import check_count
from inference.speech.ngrams import NGrams
from inference.task import Output, Task
from inference.tasks.automatic_speech_recognition import AutomaticSpeechRecognition
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class SpelledSpeechRecognition(AutomaticSpeechRecognition):
    """The text of each recording; with timestamps the words or characters, too, each with its begin and end in seconds. What is
    set of models that write has no effect here, but for `num_beams`.

    A long recording may be read in windows that overlap: what is nearer to the edge of one than `stride_length_s` is taken from
    the next. As `transformers` has it, each window is normalised by itself.

    Attributes:
        return_timestamps: `word` (or `True`) or `char`.
        num_beams: beams of the prefix search; 1 takes the likeliest token of each frame.
        language_model: an ARPA file with words in the model's spelling; needs more than one beam.
        language_weight: weight of its log probabilities.
        word_score: added for each word.
        chunk_length_s: seconds of a window; 0 reads each recording at once.
        stride_length_s: seconds on either side of a window that are seen and left out; a sixth of the window where `None`.
    """

    reader = WaveformReader
    takes = ("input_values",)
    asks = (Output("logits", f"{FRAMES} vocabulary"),)
    windowed = True

    return_timestamps: Literal[False, True, "word", "char"] = False
    language_model: str | Path | None = None
    language_weight: float = 2.0
    word_score: float = -1.0
    chunk_length_s: float = 0.0
    stride_length_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_beams", self.num_beams)
        if self.language_model is not None and self.num_beams == 1:
            raise ModelError("a language model chooses among several texts: set num_beams above 1")
        if self.return_timestamps not in (False, True, "word", "char"):
            raise ModelError(f"return_timestamps={self.return_timestamps!r}: expected a truth value, word or char")
        if self.chunk_length_s < 0 or (self.chunk_length_s and not 0.02 <= self.stride < self.chunk_length_s / 2):
            raise ModelError(
                f"chunk_length_s={self.chunk_length_s}, stride_length_s={self.stride_length_s}: expected a window of 0 s or"
                " more, and strides of 0.02 s or more that leave some of it"
            )

    @property
    def stride(self) -> float:
        return self.chunk_length_s / 6 if self.stride_length_s is None else self.stride_length_s

    def prepare(self, reader: WaveformReader) -> None:
        characters = Characters.read(reader.folder)
        if characters.size != reader.model.config.vocab_size:
            raise ModelError(
                f"{reader.folder} has a vocabulary of {characters.size} characters, and a model of"
                f" {reader.model.config.vocab_size}"
            )

    def _known(self, characters: Characters) -> Callable[[tuple[int, ...], bool], float]:
        """The language model's score of a prefix; its last word counts when it has ended."""
        if self.language_model is None:
            return nothing_known
        model, delimiter = NGrams.read(self.language_model), characters.ids[characters.delimiter]

        @functools.cache
        def whole(prefix: tuple[int, ...]) -> tuple[float, tuple[str, ...]]:
            """The score and the words of a prefix that ends with a word."""
            begin = len(prefix) - prefix[::-1].index(delimiter) if delimiter in prefix else 0
            score, before = whole(prefix[: begin - 1]) if begin else (0.0, ())
            word = characters.decode(prefix[begin:])
            if not word:
                return score, before
            return score + self.language_weight * model.log_probability(word, before) + self.word_score, (*before, word)

        def known(prefix: tuple[int, ...], ended: bool) -> float:
            if not ended and delimiter not in prefix:
                return 0.0
            end = len(prefix) if ended else len(prefix) - 1 - prefix[::-1].index(delimiter)
            return whole(prefix[:end])[0]

        return known

    def answers(self, reader: WaveformReader, given: Sequence[Any], first: int = 0) -> list[dict[str, Any]]:
        return Task.answers(self, reader, given, first)

    def read(self, reader: WaveformReader, given: Sequence[Any]) -> list[list[Waveform]]:
        """The windows of each recording."""
        return [self._windows(reader, waveform) for waveform in reader.read(given)]

    def _windows(self, reader: WaveformReader, waveform: Waveform) -> list[Waveform]:
        chunk, stride = self._sizes(reader)
        if not chunk or len(waveform) <= chunk:
            return [waveform]
        begins = range(0, len(waveform) - 2 * stride, chunk - 2 * stride)
        return [waveform[begin : begin + chunk] for begin in begins]

    def _sizes(self, reader: WaveformReader) -> tuple[int, int]:
        """Samples of a window and of a stride, whole numbers of frames' steps."""
        step, rate = int(np.prod(reader.model.config.conv_stride)), reader.processor.sampling_rate
        return tuple(round(seconds * rate / step) * step for seconds in (self.chunk_length_s, self.stride))

    def answer(
        self, reader: WaveformReader, given: Any, read: list[Waveform], outputs: list[dict[str, np.ndarray]]
    ) -> dict[str, Any]:
        config, characters = reader.model.config, Characters.read(reader.folder)
        step = int(np.prod(config.conv_stride))
        chunk, stride = (samples // step for samples in self._sizes(reader))
        logits = joined([one["logits"] for one in outputs], stride, chunk - 2 * stride)
        blank = config.pad_token_id
        if self.num_beams == 1:
            runs = greedy(logits, blank)
        else:
            scores = log_softmax(logits)
            runs = aligned(scores, beam_search(scores, blank, self.num_beams, self._known(characters)), blank)
        answer: dict[str, Any] = {"text": characters.decode([run.token for run in runs])}
        if self.return_timestamps or self.form in ("srt", "vtt"):
            said = [run for run in runs if run.token not in characters.special_ids]
            parts = [[run] for run in said] if self.return_timestamps == "char" else words(said, characters)
            seconds = step / reader.processor.sampling_rate
            answer["chunks"] = [
                {
                    "text": "".join(
                        " " if (t := characters.tokens[run.token]) == characters.delimiter else t for run in part
                    ),
                    "timestamp": (part[0].begin * seconds, part[-1].end * seconds),
                }
                for part in parts
            ]
        return answer


def joined(windows: Sequence[np.ndarray], stride: int, hop: int) -> np.ndarray:
    """Joins the scores of windows that begin every `hop` frames and overlap by two strides."""
    ends = [stride + hop] * (len(windows) - 1) + [None]
    return np.concatenate(
        [window[stride * (number > 0) : end] for number, (window, end) in enumerate(zip(windows, ends, strict=True))]
    )


def words(runs: Sequence[Run], characters: Characters) -> list[list[Run]]:
    """The runs of each word."""
    delimiter = characters.ids[characters.delimiter]
    groups = itertools.groupby(runs, key=lambda run: run.token == delimiter)
    return [list(group) for between, group in groups if not between]
