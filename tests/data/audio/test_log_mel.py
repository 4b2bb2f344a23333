"""The log-mel spectrogram against its definition, written the slow obvious way in float64."""

import jax
import numpy as np
import pytest

from data.audio.log_mel import log_mel, log_mel_of_any_length, mel_filters

CLIPS = {
    "quiet": lambda rng: 1e-4 * rng.normal(size=16_000),
    "loud": lambda rng: np.clip(3 * rng.normal(size=16_000), -1, 1),
    "short": lambda rng: np.pad(0.1 * rng.normal(size=700), (0, 8_900)),
    "tone": lambda rng: 0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 16_000),
    "silent": lambda rng: np.zeros(1_600),
}


def slow(clip: np.ndarray, mels: int) -> np.ndarray:
    """Frame by frame, frequency by frequency."""
    padded = np.pad(clip, 200, mode="reflect")
    times = np.arange(400)
    window = np.sin(np.pi * times / 400) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), times) / 400)
    filters = mel_filters(mels)
    rows = []
    for begin in range(0, len(clip), 160):
        power = np.abs(waves @ (window * padded[begin : begin + 400])) ** 2
        rows.append([np.log10(max(1e-10, float(band @ power))) for band in filters])
    logs = np.array(rows)
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("clip", CLIPS)
def test_definition(clip, mels):
    waveform = CLIPS[clip](np.random.default_rng(0))
    expected = slow(waveform, mels)
    found = np.asarray(log_mel(waveform.astype(np.float32), mels=mels))
    assert found.dtype == np.float32 and found.shape == (len(waveform) // 160, mels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    with jax.enable_x64(True):
        found = np.asarray(log_mel(waveform, mels=mels))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_each_clip_has_a_loudest_value_of_its_own():
    rng = np.random.default_rng(1)
    clips = np.stack([rng.normal(size=3_200), 1e-3 * rng.normal(size=3_200)]).astype(np.float32)
    together = np.asarray(log_mel(clips))
    for clip, found in zip(clips, together, strict=True):
        np.testing.assert_allclose(found, log_mel(clip), rtol=0, atol=1e-5)


def test_filters_have_equal_areas_and_cover_all_frequencies():
    for mels in (80, 128):
        filters = mel_filters(mels)
        assert filters.shape == (mels, 201) and (filters >= 0).all() and (filters.sum(axis=1) > 0).all()
        assert (filters[:, 1:-1].sum(axis=0) > 0).all()
        # Triangles of equal area: half of width times height is 1, the frequencies standing 40 Hz apart.
        np.testing.assert_allclose(filters[mels // 2 :].sum(axis=1) * 40, 1, atol=0.1)


@pytest.mark.parametrize("samples", [0, 160, 1_601])
def test_a_length_that_cannot_be_is_refused(samples):
    with pytest.raises(ValueError, match=f"a clip of {samples} samples"):
        log_mel(np.zeros(samples, np.float32))


@pytest.mark.parametrize("samples", [0, 150, 1_600, 4_801, 9_600])
def test_a_recording_in_parts_is_the_whole(samples):
    """Whichever parts it is computed in, with silence behind it."""
    recording = np.random.default_rng(2).normal(size=samples).astype(np.float32)
    found = log_mel_of_any_length(recording, mels=80, window=3_200)
    frames = -(-samples // 160) + 20
    assert found.shape == (frames, 80) and found.dtype == np.float32
    if samples > 200:
        expected = log_mel(np.pad(recording, (0, frames * 160 - samples)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert (found[-15:] == found.min()).all()
