"""Examples of recordings: normalised waveforms of varying length, with transcripts or classes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.audio.characters import Characters
from data.audio.processor import WaveformProcessor
from data.audio.reading import Waveform, resampled
from data.audio.recordings import Recordings
from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import AudioForm
from data.ragged import IGNORED, stacked


@dataclasses.dataclass(frozen=True)
class Alteration:
    """Augmentation of recordings.

    Attributes:
        speeds: candidates for a speed perturbation, which changes the pitch, too (Ko et al., "Audio Augmentation for Speech
            Recognition", Interspeech 2015, who take 0.9, 1 and 1.1).
        noise: level of added white noise, in decibels below the recording; `None` for no noise.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise: float | None = None

    def __post_init__(self) -> None:
        if not self.speeds or min(self.speeds) < 0.1 or max(self.speeds) > 10:
            raise DataError(f"speeds={self.speeds}: expected some numbers from 0.1 to 10")

    def longest(self, lengths: Int64[np.ndarray, " recordings"]) -> Int64[np.ndarray, " recordings"]:
        """Samples of recordings of these lengths at the lowest speed."""
        return np.ceil(lengths / min(self.speeds)).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AudioExamples(Examples):
    """Examples of some recordings:

        input_values [samples]: from the processor, padded with 0. A longer recording is cropped, at a random place in training
            and from the beginning in evaluation.
        attention_mask [samples]: int32, 1 on the recording.
        labels: int32; of transcripts [tokens], padded with `IGNORED`; of classes [].

    Attributes:
        recordings: recordings of the source.
        places: indices of those to take.
        lengths: samples of each of these.
        targets: ids of the transcript, or the class, of each of these; empty if there are none.
        characters: vocabulary of the transcripts.
        alteration: augmentation for training.

    Raises:
        DataError: there is no recording, or one without samples; later, a recording cannot be read.
    """

    recordings: Sequence[Recordings]
    places: Int64[np.ndarray, " recordings"]
    lengths: Int64[np.ndarray, " recordings"]
    processor: WaveformProcessor
    targets: Any = ()
    characters: Characters | None = None
    alteration: Alteration = Alteration()

    def __post_init__(self) -> None:
        if self.form.length < 1:
            raise DataError(f"length={self.form.length}: audio has at least a sample")
        super().__post_init__()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def sizes(self) -> Int64[np.ndarray, " recordings"]:
        """Samples of the examples; for training at the lowest speed."""
        return self.alteration.longest(self.lengths) if self.shuffled else self.lengths

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: AudioForm) -> Batch:
        values = np.zeros((len(items), form.length), np.float32)
        mask = np.zeros((len(items), form.length), np.int32)
        for row, (item, index) in enumerate(zip(items.tolist(), indices.tolist(), strict=True)):
            part = self._shown(int(self.places[item]), index, form.length)
            values[row, : len(part)] = part
            mask[row, : len(part)] = 1
        batch = {"input_values": values, "attention_mask": mask}
        if not len(self.targets):
            return batch
        if form.target:
            return {**batch, "labels": stacked([self.targets[item] for item in items], form.target, IGNORED)}
        return {**batch, "labels": np.asarray(self.targets, np.int32)[items]}

    def waveform(self, place: int) -> Waveform:
        """A whole recording, neither augmented nor normalised."""
        for recordings in self.recordings:
            if place < len(recordings):
                return recordings.waveform(place, self.processor.sampling_rate)
            place -= len(recordings)
        raise IndexError(f"there is no recording {place}")

    def _shown(self, place: int, index: int, length: int) -> Waveform:
        """What example `index` shows of a recording, at most so many samples."""
        waveform = self.waveform(place)
        if not self.shuffled:
            return self.processor.values(waveform)[:length]
        word = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]
        generator = np.random.Generator(np.random.Philox(key=np.array([word, index], np.uint64)))
        values = self.processor.values(self._altered(waveform, generator))
        begin = generator.integers(max(len(values) - length, 0) + 1)
        return values[begin : begin + length]

    def _altered(self, waveform: Waveform, generator: np.random.Generator) -> Waveform:
        speed = self.alteration.speeds[generator.integers(len(self.alteration.speeds))]
        rate = self.processor.sampling_rate
        waveform = resampled(waveform, round(speed * rate), rate)
        if self.alteration.noise is not None:
            noise = generator.normal(size=len(waveform)).astype(np.float32)
            waveform = waveform + noise * np.sqrt((waveform**2).mean()) * np.float32(
                10 ** (-self.alteration.noise / 20)
            )
        return waveform
