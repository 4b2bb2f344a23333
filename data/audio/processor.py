"""From a waveform to `input_values`, as a published `preprocessor_config.json` says: what `Wav2Vec2FeatureExtractor` does."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.errors import DataError
from data.files import whole_file

FILE = "preprocessor_config.json"
TYPE = "Wav2Vec2FeatureExtractor"
EPSILON = 1e-7


@dataclasses.dataclass(frozen=True)
class WaveformProcessor:
    """How waveforms become `input_values`, with the names of a published `preprocessor_config.json`.

    Attributes:
        do_normalize: each utterance less its mean and over its deviation, both over its samples alone.
        return_attention_mask: whether the model is told which samples are padding; published models with group norms are not.
    """

    sampling_rate: int = 16_000
    do_normalize: bool = True
    return_attention_mask: bool = True
    padding_value: float = 0.0

    @classmethod
    def read(cls, folder: str | Path) -> "WaveformProcessor":
        """The one whose file lies in `folder`: `preprocessor_config.json`, or `processor_config.json` with it inside.

        Raises:
            DataError: there is none, or it is of something else.
        """
        for name in (FILE, "processor_config.json"):
            path = Path(folder) / name
            if path.is_file():
                break
        else:
            raise DataError(f"there is no {Path(folder) / FILE}, which says how audio is prepared for the model")
        try:
            published = json.loads(path.read_text(encoding="utf-8-sig"))
            published = published.get("feature_extractor", published)
            kind = published.get("feature_extractor_type", TYPE)
        except (AttributeError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if kind != TYPE:
            raise DataError(f"{path} is of a {kind}, and a {TYPE} is expected")
        # What a file leaves out is what the class of `transformers` has by default, which masks nothing.
        known = {"return_attention_mask": False, **published}
        return cls(**{field.name: known[field.name] for field in dataclasses.fields(cls) if field.name in known})

    def write(self, folder: Path) -> None:
        """Write the `preprocessor_config.json` for `transformers.AutoFeatureExtractor`."""
        about = {"feature_extractor_type": TYPE, "feature_size": 1, "padding_side": "right", **dataclasses.asdict(self)}
        with whole_file(folder / FILE) as temporary:
            temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def values(self, waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
        """The `input_values` of one utterance."""
        if not self.do_normalize:
            return waveform
        return (waveform - waveform.mean()) / np.sqrt(waveform.var() + EPSILON)
