"""From a waveform to `input_features`, as a published `preprocessor_config.json` of Whisper says."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from data.audio.log_mel import HOP, SAMPLING_RATE, WINDOW, log_mel_of_any_length
from data.errors import DataError
from data.preprocessor import Preprocessor

FIXED = {"sampling_rate": SAMPLING_RATE, "hop_length": HOP, "n_fft": WINDOW, "padding_value": 0.0, "dither": 0.0}
"""Fields that must have these values."""


@dataclasses.dataclass(frozen=True)
class SpectrogramExtractor(Preprocessor):
    """How recordings become spectrograms, with the names of a published `preprocessor_config.json`.

    Attributes:
        feature_size: mel bands.
        chunk_length: seconds of the model's input.
    """

    inputs: ClassVar[str] = "audio is"
    part: ClassVar[str] = "feature_extractor"

    feature_size: int = 80
    chunk_length: int = 30

    @classmethod
    def from_json(cls, published: Mapping[str, Any], model_type: str = "") -> "SpectrogramExtractor":
        """From a published file; keys that mean nothing here are ignored."""
        for name, value in FIXED.items():
            if published.get(name, value) != value:
                raise DataError(f"{name}={published[name]!r}: only {value} is implemented")
        known = {field.name: published[field.name] for field in dataclasses.fields(cls) if field.name in published}
        for name, value in known.items():
            if type(value) is not int or value < 1:
                raise DataError(f"{name}={value!r}: expected a whole number above 0")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """As a published `preprocessor_config.json`."""
        samples = self.chunk_length * SAMPLING_RATE
        return {
            **{"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor"},
            **dataclasses.asdict(self),
            **FIXED,
            **{"n_samples": samples, "nb_max_frames": samples // HOP, "padding_side": "right"},
            "return_attention_mask": False,
        }

    @property
    def frames(self) -> int:
        """Frames of the model's input."""
        return self.chunk_length * SAMPLING_RATE // HOP

    def __call__(self, waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames mels"]:
        """The spectrogram of a recording of any length, with one input length of silence appended.

        Values are clipped at 8 powers of ten below the maximum of the whole recording.
        """
        return log_mel_of_any_length(waveform, mels=self.feature_size, window=self.chunk_length * SAMPLING_RATE)
