"""Examples of recordings: waveforms of ragged lengths, normalised, with their transcripts or classes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.audio.characters import Characters
from data.audio.processor import WaveformProcessor
from data.audio.recordings import Recordings
from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import AudioForm
from data.ragged import IGNORED, stacked


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AudioExamples(Examples):
    """Examples from some recordings:

        input_values [samples]: as the processor gives it, 0 behind it; of a longer recording a part, from a random place in
            training and from the beginning else.
        attention_mask [samples]: int32, 1 for its samples.
        labels: int32, of transcripts [tokens], `IGNORED` behind them; of classes [].

    Attributes:
        recordings: of all sides.
        places: those to take.
        lengths: samples of each of them.
        targets: of each of them, ids of a transcript or a class; empty without.
        characters: of transcripts.

    Raises:
        DataError: there is no recording, or no sample; later, one cannot be read.
    """

    recordings: Sequence[Recordings]
    places: Int64[np.ndarray, " recordings"]
    lengths: Int64[np.ndarray, " recordings"]
    processor: WaveformProcessor
    targets: Any = ()
    characters: Characters | None = None

    def __post_init__(self) -> None:
        if self.form.length < 1:
            raise DataError(f"length={self.form.length}: audio has at least a sample")
        super().__post_init__()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def sizes(self) -> Int64[np.ndarray, " recordings"]:
        return self.lengths

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: AudioForm) -> Batch:
        values = np.zeros((len(items), form.length), np.float32)
        mask = np.zeros((len(items), form.length), np.int32)
        for row, (item, index) in enumerate(zip(items.tolist(), indices.tolist(), strict=True)):
            part = self._part(self.processor.values(self._waveform(self.places[item])), index, form.length)
            values[row, : len(part)] = part
            mask[row, : len(part)] = 1
        batch = {"input_values": values, "attention_mask": mask}
        if not len(self.targets):
            return batch
        if form.target:
            return {**batch, "labels": stacked([self.targets[item] for item in items], form.target, IGNORED)}
        return {**batch, "labels": np.asarray(self.targets, np.int32)[items]}

    def _waveform(self, place: int) -> np.ndarray:
        for recordings in self.recordings:
            if place < len(recordings):
                return recordings.waveform(int(place), self.processor.sampling_rate)
            place -= len(recordings)
        raise IndexError(f"there is no recording {place}")

    def _part(self, values: np.ndarray, index: int, length: int) -> np.ndarray:
        """What example `index` shows of a waveform."""
        spare = len(values) - length
        if spare <= 0 or not self.shuffled:
            return values[:length]
        word = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]
        begin = np.random.Generator(np.random.Philox(key=np.array([word, index], np.uint64))).integers(spare + 1)
        return values[begin : begin + length]
