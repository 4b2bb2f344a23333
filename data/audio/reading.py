"""Audio files, bytes and arrays as a mono float32 waveform at one sampling rate.

libsndfile (`soundfile`) decodes WAV, FLAC, Ogg Vorbis, Opus, MP3 and AIFF; FFmpeg (`av`) G.722 and what else it knows; soxr
resamples. The content of a file decides how it is decoded, not its name; only G.722, which has no header, is known by its name.
"""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from data.errors import DataError

Waveform = Float32[np.ndarray, " samples"]
Source = str | Path | bytes | np.ndarray
"""A file, the bytes of one, or samples: [samples] or [samples, channels] (or [channels, samples], of a few channels), floats
of about −1 to 1 or integers of any width."""

ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".m4a", ".aac", ".webm", ".g722")
"""Endings of the names of audio files."""

HEADERS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd")
STREAMED = (0, 2**31 - 1, 2**32 - 1)
"""Lengths in the header of a WAV file that was written to a pipe, before its length was known."""
MOST_HOURS = 24
CHANNELS = 32


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Audio as its file has it: samples [samples, channels], float32, at `rate`."""

    samples: Float32[np.ndarray, "samples channels"]
    rate: int


def read_audio(
    source: Source, sampling_rate: int = 16_000, *, rate: int | None = None, name: str = ""
) -> Float32[np.ndarray, " samples"]:
    """The waveform at `sampling_rate`: channels are mixed down by their mean, integers are scaled to −1 to 1, lossy formats
    may exceed that.

    Args:
        rate: sampling rate of an array; `sampling_rate` by default.
        name: name for errors, if `source` is no path. Bytes of G.722 need one that ends in `.g722`.

    Raises:
        DataError: the file is missing, empty, truncated or no audio, or has non-finite samples.
    """
    name = name or (str(source) if isinstance(source, str | Path) else "the audio")
    if sampling_rate < 1 or (rate is not None and rate < 1):
        raise DataError(
            f"{name}: a sampling rate of {min(sampling_rate, rate or sampling_rate)} Hz is none: give 1 or more"
        )
    array = isinstance(source, np.ndarray)
    decoded = Decoded(_of_array(source, name), rate or sampling_rate) if array else decode(source, name)
    if not decoded.samples.size:
        raise DataError(f"{name} holds no sample")
    mono = decoded.samples.mean(axis=1) if decoded.samples.shape[1] > 1 else decoded.samples[:, 0]
    strange = np.flatnonzero(~np.isfinite(mono))
    if len(strange):
        raise DataError(
            f"{name}: {len(strange):,} of {len(mono):,} samples are NaN or infinite, the first {strange[0] / decoded.rate:.3f} s"
            " from the beginning: write it again without them"
        )
    return resampled(mono, decoded.rate, sampling_rate)


def resampled(
    waveform: Float32[np.ndarray, " samples"], rate: int, sampling_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """The waveform at another rate, by soxr at high quality; `round(samples · sampling_rate / rate)` samples."""
    if rate == sampling_rate:
        return np.ascontiguousarray(waveform, np.float32)
    try:
        import soxr
    except ModuleNotFoundError:
        raise DataError(
            f"from {rate} to {sampling_rate} Hz takes soxr, which is missing: install the `audio` extra"
        ) from None
    return soxr.resample(np.ascontiguousarray(waveform, np.float32), rate, sampling_rate)


def _of_array(samples: np.ndarray, name: str) -> Float32[np.ndarray, "samples channels"]:
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise DataError(
            f"{name} is an array {samples.dtype}{list(samples.shape)}: expected numbers [samples] or [samples, channels]"
        )
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if samples.shape[1] > CHANNELS:
        raise DataError(f"{name} is an array {list(samples.shape)}: expected {CHANNELS} channels at most")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = half if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - middle) / half).astype(np.float32)


def decode(source: str | Path | bytes, name: str) -> Decoded:
    """All samples of a file, or of the bytes of one.

    Raises:
        DataError: as `read_audio`.
    """
    with _file(source, name) as (file, raw):
        if raw:
            return _with_av(file, name, "g722")
        opened = _opened(file)
        if isinstance(opened, str):
            return _with_av(file, name, None, opened)
        with opened:
            _check_length(opened.frames / opened.samplerate, name)
            samples = opened.read(dtype="float32", always_2d=True)
            _check_whole(opened, len(samples), name)
            return Decoded(samples, opened.samplerate)


def length_of(source: str | Path | bytes, name: str, sampling_rate: int) -> int | None:
    """The number of samples at `sampling_rate` according to the header; `None` if a header does not say.

    Raises:
        DataError: the file is missing, or its header does not fit its content.
    """
    with _file(source, name) as (file, raw):
        opened = "" if raw else _opened(file)
        if isinstance(opened, str):
            return None
        with opened:
            _check_whole(opened, opened.frames, name)
            return round(opened.frames * sampling_rate / opened.samplerate)


@contextlib.contextmanager
def _file(source: str | Path | bytes, name: str) -> Iterator[tuple[io.BufferedIOBase, bool]]:
    """An open file, and whether it is G.722 by its name. Errors within the block become a `DataError`."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(Path(source).expanduser(), "rb") as file:
            head = file.read(4)
            file.seek(0)
            if not head:
                raise DataError(f"{name} is empty, where audio is expected")
            yield file, name.lower().endswith(".g722") and not head.startswith(HEADERS)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"there is no audio file {name}") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder, where an audio file is expected") from None
    except PermissionError:
        raise DataError(f"{name} may not be read") from None
    except ModuleNotFoundError as error:
        raise DataError(f"reading audio takes {error.name}, which is missing: install the `audio` extra") from None
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{name} is broken or truncated audio: {reason}") from error


def _opened(file: io.BufferedIOBase) -> Any:
    """A `soundfile.SoundFile`, or why libsndfile cannot open it."""
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        file.seek(0)
        return error.error_string


def _check_length(seconds: float, name: str) -> None:
    if seconds > MOST_HOURS * 3_600:
        raise DataError(
            f"{name} is {seconds / 3_600:.0f} hours long, and {MOST_HOURS} are read at most: cut it into parts"
        )


def _check_whole(opened: Any, count: int, name: str) -> None:
    """Raises if the file has less audio than its header says, which libsndfile only logs."""
    log = opened.extra_info
    said = re.search(r"^data\s*: (0x)?([0-9A-Fa-f]+) \(should be (\d+)\)", log, re.MULTILINE)
    short = (
        said is not None and (length := int(said[2], 16 if said[1] else 10)) > int(said[3]) and length not in STREAMED
    )
    if short or count < opened.frames or "without an End-Of-Stream" in log or "not equal to frame count" in log:
        raise DataError(f"{name} is truncated: it has less audio than its header says, get it again")


def _with_av(file: io.BufferedIOBase, name: str, raw: str | None, reason: str = "") -> Decoded:
    """Decodes with FFmpeg.

    Args:
        raw: format of a file without a header.
        reason: libsndfile's error.
    """
    import av

    try:
        container = av.open(file, format=raw)
    except av.FFmpegError:
        raise DataError(
            f"{name} is no audio of a format that can be read ({reason.rstrip('.') or 'FFmpeg cannot open it'})"
        ) from None
    with container:
        if not container.streams.audio:
            raise DataError(f"{name} has no audio in it")
        stream = container.streams.audio[0]
        _check_length((container.duration or 0) / av.time_base, name)
        convert = av.AudioResampler(format="fltp")
        frames = [out.to_ndarray() for frame in container.decode(stream) for out in convert.resample(frame)]
        if not frames:
            raise DataError(f"{name} holds no sample")
        frames += [out.to_ndarray() for out in convert.resample(None)]
        return Decoded(np.concatenate(frames, axis=1).T, stream.rate)
