"""Evaluations of what a model writes down of recordings: the task of a pipeline, asked of the examples of a run."""

import dataclasses

import jax
import numpy as np
from jaxtyping import PyTree

from data.audio.dictated import PreparedDictation
from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import SAMPLING_RATE
from data.errors import DataError
from experiments.assembly.written import Writer, generation_settings
from inference.pipeline import Pipeline
from inference.readers.sound import SoundReader
from inference.speech import Listener, SpeechTokens


@dataclasses.dataclass(frozen=True)
class Hearer(Writer):
    """An evaluation with a task that hears: as a pipeline on the exported folder would."""

    def check(self) -> None:
        """Raise `ModelError` where the model or its special tokens do not fit the task; `DataError` where the data have no
        recordings with texts."""
        data, student = self.assembly.data, self.assembly.student
        self.evaluation.task.check(student)
        if not isinstance(data, PreparedDictation):
            raise DataError(f"{type(data).__name__} holds no recordings with texts in tokens: set --data to `Dictated`")
        SpeechTokens.of(data.tokenizer, student.config, generation_settings(self.assembly))

    def examples(self, numbers: np.ndarray | None = None) -> tuple[list[np.ndarray], list[str]]:
        """Recordings, whole, and what is said in them, of some of the evaluated examples, or of all."""
        data = self.assembly.data
        items = self.items(numbers)
        return data.waveforms(items), data.texts(items)[1]

    def write(self, variables: PyTree, sources: list[np.ndarray]) -> list[str]:
        """What the model writes of each recording."""
        assembly, model = self.assembly, self.assembly.student
        settings = generation_settings(assembly)
        listener = Listener.of(model, jax.device_put(variables), assembly.data.tokenizer, settings)
        seconds = assembly.form(-1).length // SAMPLING_RATE
        extractor = SpectrogramExtractor(model.config.num_mel_bins, seconds)
        reader = SoundReader(model, variables, listener, extractor)
        return [answer["text"] for answer in Pipeline(self.evaluation.task, reader)(sources)]
