"""Audio of any format, rate, width and number of channels becomes the same waveform, or one sentence."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data import DataError
from data.audio.reading import length_of, read_audio

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray, container: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def g722(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


EXACT = {
    ("WAV", "PCM_16"): 3.1e-5, ("WAV", "PCM_24"): 1.2e-7, ("WAV", "PCM_U8"): 7.9e-3, ("WAV", "FLOAT"): 0.0,
    ("WAV", "DOUBLE"): 0.0, ("FLAC", "PCM_16"): 3.1e-5, ("FLAC", "PCM_24"): 1.2e-7, ("AIFF", "PCM_16"): 3.1e-5,
}  # fmt: skip


@pytest.mark.parametrize("container,subtype", EXACT)
def test_lossless_files_of_any_width_are_scaled_to_the_same_samples(container: str, subtype: str) -> None:
    samples = tone()
    read = read_audio(encoded(samples, container, subtype))
    assert read.dtype == np.float32
    assert np.abs(read - samples).max() <= EXACT[container, subtype]


@pytest.mark.parametrize("container,subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)])
def test_lossy_files_keep_their_length_and_lag_by_nothing(container: str, subtype: str | None) -> None:
    samples = tone(1.0001)
    content = encoded(samples, container, subtype)
    read = read_audio(content)
    assert read.shape == samples.shape == (length_of(content, "", RATE),)
    assert np.corrcoef(read, samples)[0, 1] > 0.998


def test_g722_goes_by_its_ending_and_what_a_file_holds_by_its_content(tmp_path: Path) -> None:
    samples = tone()
    (tmp_path / "a.g722").write_bytes(g722(samples))
    read = read_audio(tmp_path / "a.g722")
    assert abs(len(read) - len(samples)) <= 2
    assert np.corrcoef(read[22 : len(samples)], samples[: len(read) - 22][: len(read[22 : len(samples)])])[0, 1] > 0.99
    (tmp_path / "flac.g722").write_bytes(encoded(samples, "FLAC"))  # misnamed, and all that says what it is is inside
    assert len(read_audio(tmp_path / "flac.g722")) == len(samples)
    (tmp_path / "mp3.wav").write_bytes(encoded(samples, "MP3"))
    assert len(read_audio(tmp_path / "mp3.wav")) == len(samples)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_another_rate_is_resampled(rate: int) -> None:
    read = read_audio(encoded(tone(rate=rate), subtype="FLOAT", rate=rate))
    assert len(read) == RATE == length_of(encoded(tone(rate=rate), rate=rate), "", RATE)
    assert np.abs(read - tone())[500:-500].max() < 1e-3
    assert np.array_equal(read_audio(tone(rate=rate), rate=rate), read)


def test_channels_are_mixed_down_by_their_mean() -> None:
    left, right = tone(hertz=300), tone(hertz=500)
    stereo = np.stack([left, right], axis=1)
    for source in (encoded(stereo, subtype="FLOAT"), stereo, stereo.T):
        assert np.abs(read_audio(source) - (left + right) / 2).max() < 1e-7


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "float64"])
def test_arrays_of_any_width_are_scaled(dtype: str) -> None:
    samples = tone()
    if dtype != "float64":
        bits = np.iinfo(dtype).bits
        whole = np.round(samples.astype(np.float64) * 2 ** (bits - 1)) + (2 ** (bits - 1) if dtype == "uint8" else 0)
        assert np.abs(read_audio(whole.astype(dtype)) - samples).max() <= 2.0 ** -(bits - 1)
    else:
        assert np.array_equal(read_audio(samples.astype(dtype)), samples)


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"A long text that is no audio at all. " * 50, "no audio of a format that can be read"),
    "no sample": (encoded(np.zeros(0, np.float32)), "holds no sample"),
    "cut WAV": (encoded(tone())[:-2_000], "is truncated"),
    "cut by 2 bytes": (encoded(tone())[:-2], "is truncated"),
    "cut FLAC": (encoded(tone(), "FLAC")[:-2_000], "broken or truncated"),
    "cut Ogg": (encoded(tone(10), "OGG", "OPUS")[:-2_000], "is truncated"),
    "cut Ogg in its first page": (encoded(tone(), "OGG")[:2_000], "format that can be read .*malformed"),
    "cut MP3": (encoded(tone(), "MP3")[:-800], "is truncated"),
    "cut AIFF": (encoded(tone(), "AIFF")[:-2_000], "is truncated"),
    "NaN": (np.where(np.arange(100) == 8, np.nan, 0).astype(np.float32), "1 of 100 samples are NaN .* 0.001 s"),
    "NaN in a file": (encoded(np.where(np.arange(100) == 8, np.inf, 0).astype(np.float32), subtype="FLOAT"), "NaN or infinite"),
    "3 axes": (np.zeros((2, 3, 4), np.float32), r"float32\[2, 3, 4\]: expected"),
    "booleans": (np.zeros(4, bool), r"an array bool\[4\]"),
    "100 channels": (np.zeros((200, 100), np.float32), "32 channels at most"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_audio_is_one_sentence(case: str) -> None:
    source, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        read_audio(source, name="clip.x")
    assert "clip.x" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_paths_and_rates_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no audio file .*a\.wav"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(DataError, match="is a folder"):
        read_audio(tmp_path)
    with pytest.raises(DataError, match="0 Hz"):
        read_audio(tone(), 0)


def test_a_wav_that_was_written_to_a_pipe_is_whole() -> None:
    content = bytearray(encoded(tone()))
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    assert len(read_audio(bytes(content))) == RATE


def test_silence_is_audio() -> None:
    assert np.array_equal(read_audio(np.zeros(100, np.int16)), np.zeros(100, np.float32))
