"""Spectrograms that are made on the device, and their masks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import DataError
from data.audio.features import SpectrogramExtractor
from data.audio.spectrograms import MASKED, LabelledSpectrograms, SpecAugment, Spectrograms
from data.forms import AudioForm
from tests.data.audio.samples import tone


def test_a_spectrogram_is_that_of_the_extractor() -> None:
    samples = np.pad(tone(0.6), (0, 16_000 - 9_600))
    seen = Spectrograms(80)(jax.random.key(0), {"input_values": jnp.asarray(samples)}, True)
    expected = SpectrogramExtractor(80, 1)(tone(0.6))[:100]
    np.testing.assert_allclose(seen["input_features"], expected, atol=1e-5)


def test_nothing_is_masked_of_what_is_held_out() -> None:
    make = Spectrograms(80, SpecAugment(bands=2, spans=2))
    example = {"input_values": jnp.asarray(tone(1.0))}
    plain = Spectrograms(80)(jax.random.key(0), example, True)["input_features"]
    np.testing.assert_array_equal(make(jax.random.key(0), example, False)["input_features"], plain)
    assert (make(jax.random.key(0), example, True)["input_features"] != plain).any()


def test_stripes_are_as_wide_as_they_may_be() -> None:
    features = jnp.ones((50, 20))
    masking = SpecAugment(bands=1, band_width=6, spans=1, span_width=9)
    widths = {"bands": [], "frames": []}
    for number in range(400):
        seen = np.asarray(masking(jax.random.key(number), features)) == MASKED
        bands, frames = seen.all(axis=0), seen.all(axis=1)
        np.testing.assert_array_equal(seen, bands[None] | frames[:, None])  # stripes and nothing else
        for name, hidden in (("bands", bands), ("frames", frames)):
            widths[name].append(int(hidden.sum()))
            assert (np.diff(np.flatnonzero(hidden)) == 1).all()  # one stripe
    for name, widest in (("bands", 6), ("frames", 9)):
        counts = np.bincount(widths[name], minlength=widest + 1)
        assert len(counts) == widest + 1
        share = 400 / (widest + 1)
        assert (np.abs(counts - share) < 5 * np.sqrt(share)).all()  # each width as often


def test_a_share_of_the_frames_bounds_a_span() -> None:
    masking = SpecAugment(spans=1, span_width=100, span_share=0.1)
    hidden = [int((np.asarray(masking(jax.random.key(n), jnp.ones((50, 4)))) == MASKED)[:, 0].sum()) for n in range(60)]
    assert max(hidden) == 5


@pytest.mark.parametrize("wrong", [dict(bands=-1), dict(span_share=1.5), dict(span_width=-2)])
def test_what_cannot_be_masked_is_refused(wrong) -> None:
    with pytest.raises(DataError, match="expected numbers of 0 or more"):
        SpecAugment(**wrong)


def test_windows_are_whole_seconds(tmp_path) -> None:
    source = LabelledSpectrograms(mels=24)
    with pytest.raises(DataError, match="whole seconds"):
        source.write_processor(tmp_path, AudioForm(20_000))
    source.write_processor(tmp_path, AudioForm(32_000))
    assert SpectrogramExtractor.read(tmp_path) == SpectrogramExtractor(24, 2)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["n_samples"] == 32_000
