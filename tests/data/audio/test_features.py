"""What a folder says of spectrograms: published files in and out, and what is refused."""

import json

import numpy as np
import pytest

from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import log_mel
from data.errors import DataError


def test_a_published_file_is_read_and_written(tmp_path):
    extractor = SpectrogramExtractor(feature_size=128, chunk_length=2)
    extractor.write(tmp_path)
    assert SpectrogramExtractor.read(tmp_path) == extractor
    published = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (published["n_samples"], published["nb_max_frames"], published["sampling_rate"]) == (32_000, 200, 16_000)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": published}))
    assert SpectrogramExtractor.read(tmp_path) == extractor


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"sampling_rate": 8_000}, "sampling_rate=8000: only 16000 is implemented"),
        ({"n_fft": 512}, "n_fft=512: only 400 is implemented"),
        ({"feature_size": 0}, "feature_size=0: expected a whole number above 0"),
        ([1], "holds no JSON object"),
        (None, "there is no .*preprocessor_config.json"),
    ],
)
def test_what_cannot_be_is_one_sentence(published, message, tmp_path):
    if published is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    with pytest.raises(DataError, match=message):
        SpectrogramExtractor.read(tmp_path)


def test_a_recording_and_the_silence_behind_it():
    extractor = SpectrogramExtractor(feature_size=80, chunk_length=1)
    recording = np.random.default_rng(0).normal(size=4_000).astype(np.float32)
    found = extractor(recording)
    assert found.shape == (25 + extractor.frames, 80)
    expected = log_mel(np.pad(recording, (0, 16_000)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
