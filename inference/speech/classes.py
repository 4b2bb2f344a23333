"""`audio-classification` of models that read spectrograms."""

import dataclasses

from inference.readers.spectrogram import SpectrogramReader
from inference.tasks.audio_classification import AudioClassification


@dataclasses.dataclass(frozen=True)
class SpectrogramClassification(AudioClassification):
    """The same, of the first window of a recording."""

    reader = SpectrogramReader
    takes = ("input_features",)
