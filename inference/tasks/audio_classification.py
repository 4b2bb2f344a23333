"""`audio-classification`: labels of recordings."""

import dataclasses
from typing import Any

import numpy as np

from inference.readers.reader import Reader
from inference.readers.waveform import WaveformReader
from inference.scores import Answer, check_count, ranked
from inference.task import Output, Task
from models.model import Model


@dataclasses.dataclass(frozen=True)
class AudioClassification(Task):
    """For each recording its likeliest labels with their scores, the likeliest first.

    Attributes:
        top_k: answers for each recording.
    """

    name = "audio-classification"
    reader = WaveformReader
    fields = ()
    takes = ("input_values",)
    asks = (Output("logits", "labels"),)
    example = "lacuna predict audio-classification RECORDING --model {model}"

    top_k: int = 5

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)

    def suited_to(self, model: Model) -> Task:
        if "input_features" not in model.inputs:
            return self
        from inference.speech.classes import SpectrogramClassification

        return SpectrogramClassification(**vars(self))

    def answer(self, reader: Reader, given: Any, read: Any, outputs: dict[str, np.ndarray]) -> list[Answer]:
        return ranked(outputs["logits"], reader.model.config, self.top_k)
