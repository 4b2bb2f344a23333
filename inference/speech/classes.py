"""`audio-classification` of models that read spectrograms."""

import dataclasses

from inference.readers.spectrogram import SpectrogramReader
from inference.tasks.audio_classification import AudioClassification


@dataclasses.dataclass(frozen=True)
class SpectrogramClassification(AudioClassification):
    """Audio classification from the spectrogram of the first window of a recording."""

    reader = SpectrogramReader
    takes = ("input_features",)
