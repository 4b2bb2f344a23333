"""The log-mel spectrogram against the torch path of `transformers`, which is OpenAI's definition."""

import jax
import numpy as np
import pytest

from data.audio.log_mel import log_mel, mel_filters
from tests.parity.reference import torch, transformers

SAMPLES = 480_000


def clip(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    times = np.arange(SAMPLES) / 16_000
    glide = np.sin(2 * np.pi * (120 * times + 60 * times**2)) * np.sin(np.pi * times / 0.7) ** 2
    return {
        "quiet": lambda: 1e-4 * rng.normal(size=200_000),
        "loud": lambda: np.clip(2 * glide + rng.normal(size=SAMPLES), -1, 1)[:300_000],
        "short": lambda: 0.2 * rng.normal(size=1_234),
        "whole": lambda: 0.3 * glide,
    }[name]().astype(np.float32)


def in_torch(waveform: np.ndarray, mels: int) -> np.ndarray:
    """The steps of `_torch_extract_fbank_features`, in the dtype of the clip, which there is always float32."""
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    waveform = torch.from_numpy(waveform)
    window = torch.hann_window(400, dtype=waveform.dtype)
    magnitudes = torch.stft(waveform, 400, 160, window=window, return_complex=True)[..., :-1].abs() ** 2
    logs = (torch.from_numpy(extractor.mel_filters.T).to(waveform.dtype) @ magnitudes).clamp(min=1e-10).log10()
    return (((torch.maximum(logs, logs.max() - 8.0)) + 4.0) / 4.0).numpy().T


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("name", ["quiet", "loud", "short", "whole"])
def test_features(name, mels):
    waveform = clip(name)
    theirs = transformers.WhisperFeatureExtractor(feature_size=mels)
    expected = theirs(waveform, sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    padded = np.pad(waveform, (0, SAMPLES - len(waveform)))
    np.testing.assert_allclose(log_mel(padded, mels=mels), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(in_torch(padded, mels), expected, rtol=0, atol=1e-6)
    with jax.enable_x64(True):
        found = log_mel(padded.astype(np.float64), mels=mels)
    np.testing.assert_allclose(found, in_torch(padded.astype(np.float64), mels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mels", [80, 128])
def test_filters(mels):
    theirs = transformers.WhisperFeatureExtractor(feature_size=mels).mel_filters.T
    np.testing.assert_allclose(mel_filters(mels), theirs, rtol=0, atol=1e-12)
