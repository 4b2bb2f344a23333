"""From a waveform to `input_values`, as a published `preprocessor_config.json` says: what `Wav2Vec2FeatureExtractor` does."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from data.errors import DataError
from data.preprocessor import Preprocessor

TYPE = "Wav2Vec2FeatureExtractor"
EPSILON = 1e-7


@dataclasses.dataclass(frozen=True)
class WaveformProcessor(Preprocessor):
    """How waveforms become `input_values`, with the names of a published `preprocessor_config.json`.

    Attributes:
        do_normalize: whether each utterance is normalised by the mean and deviation of its samples.
        return_attention_mask: whether the model gets a mask of the padding; published models with group norms do not.
    """

    inputs: ClassVar[str] = "audio is"
    part: ClassVar[str] = "feature_extractor"

    sampling_rate: int = 16_000
    do_normalize: bool = True
    return_attention_mask: bool = True
    padding_value: float = 0.0

    @classmethod
    def from_json(cls, published: Mapping[str, Any], model_type: str = "") -> "WaveformProcessor":
        """From a published file. Missing fields have the defaults of the class in `transformers`, which returns no mask.

        Raises:
            DataError: it is of another class.
        """
        name = published.get("feature_extractor_type", TYPE)
        if name != TYPE:
            raise DataError(f"it is of a {name}, and a {TYPE} is expected")
        known = {"return_attention_mask": False, **published}
        return cls(**{field.name: known[field.name] for field in dataclasses.fields(cls) if field.name in known})

    def to_json(self) -> dict[str, Any]:
        """The file for `transformers.AutoFeatureExtractor`."""
        return {"feature_extractor_type": TYPE, "feature_size": 1, "padding_side": "right", **dataclasses.asdict(self)}

    def values(self, waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
        """The `input_values` of one utterance."""
        if not self.do_normalize:
            return waveform
        return (waveform - waveform.mean()) / np.sqrt(waveform.var() + EPSILON)
