"""Spectrograms computed on the device from samples, and masked in training.

Park et al.: "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019, arXiv 1904.08779, without
its time warping.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import SAMPLING_RATE, log_mel
from data.audio.source import LabelledAudio
from data.errors import DataError
from data.forms import AudioForm

Example = dict[str, Array]
MASKED = 0.0
"""What a masked value becomes, as in `transformers`: of Whisper's spectrograms, from -1 to 1.5 or so, about the middle."""


@dataclasses.dataclass(frozen=True)
class SpecAugment:
    """Masked stripes of a spectrogram: place and width of each are uniform, the width from 0 to the largest.

    The paper's policy for LibriSpeech that large-v2 was trained with, "LB", is one stripe of either, of 27 bands and of 100
    frames.

    Attributes:
        bands, band_width: number and largest width of stripes of mel bands.
        spans, span_width: number and largest width of stripes of frames.
        span_share: a span is no wider than this fraction of the frames.
    """

    bands: int = 0
    band_width: int = 27
    spans: int = 0
    span_width: int = 100
    span_share: float = 1.0

    def __post_init__(self) -> None:
        if min(self.bands, self.band_width, self.spans, self.span_width) < 0 or not 0 <= self.span_share <= 1:
            raise DataError(f"{self!r}: expected numbers of 0 or more, and a share from 0 to 1")

    def __call__(self, key: Key[Array, ""], features: Float[Array, "frames mels"]) -> Float[Array, "frames mels"]:
        """The spectrogram with its stripes set to `MASKED`."""
        frames, mels = features.shape
        of_bands, of_spans = jax.random.split(key)
        hidden = stripes(of_bands, mels, self.bands, min(self.band_width, mels))[None]
        widest = min(self.span_width, int(self.span_share * frames))
        hidden |= stripes(of_spans, frames, self.spans, widest)[:, None]
        return jnp.where(hidden, MASKED, features)


def stripes(key: Key[Array, ""], places: int, count: int, widest: int) -> Bool[Array, " places"]:
    """A mask of `count` random stripes."""
    of_widths, of_begins = jax.random.split(key)
    widths = jax.random.randint(of_widths, (count,), 0, widest + 1)
    begins = jax.random.randint(of_begins, (count,), 0, places - widths + 1)
    place = jnp.arange(places)[:, None]
    return ((begins[None] <= place) & (place < (begins + widths)[None])).any(axis=1)


@dataclasses.dataclass(frozen=True)
class Spectrograms:
    """Replaces an example's `input_values` by `input_features` [frames, mels], 100 frames per second.

    Attributes:
        mels: number of mel bands.
        masking: masking in training.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_values",)
    writes: ClassVar[tuple[str, ...]] = ("input_features",)
    mixes: ClassVar[bool] = False

    mels: int = 80
    masking: SpecAugment = SpecAugment()

    def __call__(self, key: Key[Array, ""], example: Example, training: bool) -> Example:
        features = log_mel(example["input_values"], mels=self.mels)
        return {**example, "input_features": self.masking(key, features) if training else features}


@dataclasses.dataclass(frozen=True)
class OfSpectrograms:
    """Mixin of audio sources for models of spectrograms such as Whisper: samples are not normalised, and examples are whole
    seconds, padded with silence.

    Attributes:
        mels: number of mel bands of the model.
        masking: masking of spectrograms in training.
    """

    do_normalize: bool = False
    mels: int = 80
    masking: SpecAugment = SpecAugment()

    @property
    def augmentation(self) -> Spectrograms:
        return Spectrograms(self.mels, self.masking)

    def write_processor(self, folder: Path, form: AudioForm) -> None:
        """Write the `preprocessor_config.json` for `transformers.AutoFeatureExtractor`.

        Raises:
            DataError: the form's length is no whole number of seconds.
        """
        seconds, rest = divmod(form.length, SAMPLING_RATE)
        if rest or not seconds:
            raise DataError(
                f"length={form.length}: examples that are read as spectrograms are whole seconds of {SAMPLING_RATE:,} samples"
            )
        SpectrogramExtractor(self.mels, seconds).write(folder)


@dataclasses.dataclass(frozen=True)
class LabelledSpectrograms(OfSpectrograms, LabelledAudio):
    """Recordings and a class each, as those of `LabelledAudio`."""
