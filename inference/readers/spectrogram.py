"""Recordings for models of spectrograms that see one window of each."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import HOP, log_mel
from data.audio.reading import Waveform
from inference.readers.reader import Output, Reader, apply
from inference.readers.sound import SoundReader, waveform
from models.model import Model


@dataclasses.dataclass(frozen=True)
class SpectrogramReader(Reader):
    """A model of spectrograms, and how they are made for it. As in `transformers` what is longer than a window is cut."""

    extractor: SpectrogramExtractor
    block = 8

    what = SoundReader.what
    types = SoundReader.types

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "SpectrogramReader":
        return cls(model, variables, SpectrogramExtractor.read(folder))

    def read(self, given: Sequence[Any]) -> list[Waveform]:
        """The samples of a window of each, silence behind what is shorter."""
        length, rows = self.extractor.frames * HOP, []
        for number, one in enumerate(given):
            samples = waveform(one, f"recording {number}")[:length]
            rows.append(np.pad(samples, (0, length - len(samples))))
        return rows

    def outputs(
        self, read: Sequence[Waveform], asks: tuple[Output, ...]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for begin in range(0, len(read), self.block):
            samples = np.stack(read[begin : begin + self.block])
            rows = np.zeros((1 << (len(samples) - 1).bit_length(), samples.shape[1]), np.float32)
            rows[: len(samples)] = samples
            features = log_mel(rows, mels=self.extractor.feature_size)
            outputs = jax.device_get(apply(self.model, asks, self.variables, {"input_features": features}))
            for row in range(len(samples)):
                yield begin + row, {name: x[row] for name, x in outputs.items()}
