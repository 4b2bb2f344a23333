"""Recordings for models of waveforms; they come as those for models of spectrograms do (`inference.readers.sound`)."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.audio.processor import WaveformProcessor
from data.audio.reading import Waveform
from inference.readers.reader import Output, Reader, apply
from inference.readers.sound import SoundReader, waveform
from models.config import ModelError
from models.model import Model

FRAMES = "frames"
"""The axis of outputs with a row for each frame."""
STEP = 16_000
"""Samples that a padded waveform has a multiple of, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True)
class WaveformReader(Reader):
    """A model of waveforms, and how they are prepared for it. Of a model that is not told what is padding each waveform is read
    by itself, for padding would change what it makes of it; a program is compiled for each of their lengths."""

    processor: WaveformProcessor
    folder: Path

    what = SoundReader.what
    types = SoundReader.types

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "WaveformReader":
        return cls(model, variables, WaveformProcessor.read(folder), folder)

    def read(self, given: Sequence[Any]) -> list[Waveform]:
        """The waveform of each, at the model's rate.

        Raises:
            ModelError: one is too short to make a frame of.
        """
        return [self._one(one, f"recording {number}") for number, one in enumerate(given)]

    def _one(self, given: Any, name: str) -> Waveform:
        found, least = waveform(given, name, self.processor.sampling_rate), self.model.config.samples(1)
        if len(found) < least:
            name = str(given) if isinstance(given, str | Path) else name
            raise ModelError(
                f"{name} has {len(found)} samples, and the model makes a frame of {least}: give longer audio"
            )
        return found

    def outputs(
        self, read: Sequence[Waveform], asks: tuple[Output, ...]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        by_frame = [ask.name for ask in asks if ask.axes.startswith(FRAMES)]
        lengths: dict[int, list[int]] = {}
        for number, samples in enumerate(read):
            padded = -(-len(samples) // STEP) * STEP if self.processor.return_attention_mask else len(samples)
            lengths.setdefault(padded, []).append(number)
        for length, numbers in sorted(lengths.items()):
            rows = 1 << (len(numbers) - 1).bit_length()
            values = np.full((rows, length), self.processor.padding_value, np.float32)
            mask = np.zeros((rows, length), np.int32)
            for row, number in enumerate(numbers):
                values[row, : len(read[number])] = self.processor.values(read[number])
                mask[row, : len(read[number])] = 1
            inputs = {"input_values": values}
            if self.processor.return_attention_mask:
                inputs["attention_mask"] = mask
            outputs = jax.device_get(apply(self.model, asks, self.variables, inputs))
            for row, number in enumerate(numbers):
                frames = self.model.config.frames(len(read[number]))
                yield number, {name: x[row, :frames] if name in by_frame else x[row] for name, x in outputs.items()}
