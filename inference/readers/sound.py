"""Sound, as tasks are given it: a path, the bytes of a file, or samples, with their rate where that is not the model's."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import SAMPLING_RATE
from data.audio.reading import read_audio
from data.text import tokenizers
from inference.readers.reader import Reader
from inference.speech import Listener
from models.config import ModelError
from models.hub import files
from models.hub.beside import GENERATION
from models.model import Model

SAMPLES, RATE = ("array", "raw"), "sampling_rate"
"""Names of what a dictionary has."""


@dataclasses.dataclass(frozen=True)
class SoundReader(Reader):
    """A model of speech, and how sound is prepared for it."""

    listener: Listener
    extractor: SpectrogramExtractor

    what = "recording (a file, its bytes, an array, or a dictionary of array and sampling_rate)"
    types = (str, Path, bytes, np.ndarray, dict)

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "SoundReader":
        path = folder / GENERATION
        published = files.read_json(path) if path.is_file() else {}
        listener = Listener.of(model, variables, tokenizers.load(folder), published)
        extractor = SpectrogramExtractor.read(folder)
        if (extractor.frames, extractor.feature_size) != (model.config.frames, model.config.num_mel_bins):
            raise ModelError(
                f"{folder}: spectrograms are of {extractor.frames} frames and {extractor.feature_size} mels, and the model"
                f" hears {model.config.frames} and {model.config.num_mel_bins}"
            )
        return cls(model, variables, listener, extractor)

    def read(self, given: Sequence[Any]) -> list[Float32[np.ndarray, " samples"]]:
        """The waveform of each recording.

        Raises:
            DataError: it cannot be read.
            ModelError: a dictionary lacks its samples or their rate.
        """
        return [waveform(one, f"recording {number}") for number, one in enumerate(given)]


def waveform(given: Any, name: str, sampling_rate: int = SAMPLING_RATE) -> Float32[np.ndarray, " samples"]:
    """The samples of one recording at the model's rate, which an array is taken to have, where it does not say otherwise."""
    if not isinstance(given, Mapping):
        return read_audio(given, sampling_rate, name="" if isinstance(given, str | Path) else name)
    samples = next((given[key] for key in SAMPLES if key in given), None)
    if samples is None or RATE not in given:
        raise ModelError(f"{name} has {', '.join(map(str, given))}: expected array and sampling_rate")
    return read_audio(np.asarray(samples), sampling_rate, rate=given[RATE], name=name)
