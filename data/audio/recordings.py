"""Sources of recordings: folders of files, class folders, tables of files and texts, TFDS data sets."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.audio.reading import ENDINGS, Waveform, length_of, read_audio
from data.class_folders import SPLITS, Wanted, class_folders
from data.contents import Broken, Content, Contents, content_hash, read_all
from data.errors import DataError
from data.file_contents import Reading, file_contents
from data.files import files_below, locked, on_disk
from data.text.tables import SUFFIXES, Columns, open_table
from data.tfds import shard_states, tfds_builder, tfds_split


class Recordings(Protocol):
    """Recordings in a fixed order, each with its text or class, if any."""

    values: Sequence[Any]

    def __len__(self) -> int: ...

    def waveform(self, index: int, sampling_rate: int) -> Waveform:
        """A recording in mono. Raises `DataError` if it cannot be read."""
        ...

    def contents(self, reading: Reading, sampling_rate: int) -> Contents:
        """Hash and number of samples of each, read once and cached."""
        ...


@dataclasses.dataclass(frozen=True)
class Opened:
    """The contents of a source: its splits, and the names of the classes if `values` are classes."""

    splits: Mapping[str, Recordings]
    classes: tuple[str, ...] = ()


def examine(content: bytes, name: str, *, decode: bool = False, sampling_rate: int) -> int:
    """The number of samples of a recording, if it is whole; from its header if possible, unless `decode` is set.

    Raises:
        DataError: as `read_audio`.
    """
    length = None if decode else length_of(content, name, sampling_rate)
    return length or len(read_audio(content, sampling_rate, name=name))


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """Recordings in files, decoded on demand."""

    folder: str
    names: np.ndarray
    values: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.names)

    def waveform(self, index: int, sampling_rate: int) -> Waveform:
        return read_audio(os.path.join(self.folder, os.fsdecode(self.names[index])), sampling_rate)

    def contents(self, reading: Reading, sampling_rate: int) -> Contents:
        return file_contents(self.folder, self.names, reading)


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Recordings in memory, at `rate`."""

    waveforms: Sequence[np.ndarray]
    rate: int
    values: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.waveforms)

    def waveform(self, index: int, sampling_rate: int) -> Waveform:
        return read_audio(self.waveforms[index], sampling_rate, rate=self.rate, name=f"recording {index}")

    def contents(self, reading: Reading, sampling_rate: int) -> Contents:
        return Contents.of(read_all(lambda index: _content(self, index, sampling_rate), len(self), reading.progress))


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Recordings of a TFDS data set: integers at `rate`."""

    items: Sequence[Mapping[str, Any]]
    audio: str
    value: str
    rate: int
    name: str
    state: str

    def __len__(self) -> int:
        return len(self.items)

    @functools.cached_property
    def values(self) -> Sequence[Any]:
        read = [item[self.value] for item in self.items] if self.value else []
        return [value.decode("utf-8") if isinstance(value, bytes) else value for value in read]

    def waveform(self, index: int, sampling_rate: int) -> Waveform:
        samples = np.asarray(self.items[index][self.audio])
        if samples.dtype == np.int64:  # how TFDS declares audio of 16 bits
            samples = samples.astype(np.int16)
        return read_audio(samples, sampling_rate, rate=self.rate, name=f"recording {index} of {self.name}")

    def contents(self, reading: Reading, sampling_rate: int) -> Contents:
        key = hashlib.sha256(f"{self.state}, {self.name}, {sampling_rate}".encode()).hexdigest()[:32]
        path = reading.cache / f"{reading.item}s" / f"{key}.npz"
        with locked(path):
            if reading.again or not path.exists():
                contents = read_all(lambda index: _content(self, index, sampling_rate), len(self), reading.progress)
                Contents.of(contents).save(path)
            return Contents.load(path)


def _content(recordings: Recordings, index: int, sampling_rate: int) -> Content:
    try:
        waveform = recordings.waveform(index, sampling_rate)
    except DataError as error:
        return Content(broken=str(error))
    return Content(content_hash(waveform.tobytes()), len(waveform))


def open_files(source: str) -> Opened:
    """Opens the recordings in a folder, at any depth; folders with the names of splits are splits."""
    path = existing(source, "a folder of audio files or a TFDS name")
    if path.is_file():
        raise DataError(f"{path} is a file: give a folder of audio files, or set --data to a source with transcripts")
    names = {"": files_below(path, ENDINGS)}
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name in SPLITS)
    if "train" in folders:
        names = {folder: [f"{folder}/{name}" for name in files_below(path / folder, ENDINGS)] for folder in folders}
    if not any(names.values()):
        raise DataError(f"{path} holds no audio file ({', '.join(ENDINGS)}), here or deeper")
    return Opened({split or "train": Files(str(path), encoded(found)) for split, found in names.items() if found})


def open_classes(source: str) -> Opened:
    """Opens a folder of class folders: recordings and their classes."""
    path = existing(source, "a folder of class folders of audio files, a .tsv, a .jsonl or a TFDS name")
    classes, splits = class_folders(path, Wanted(ENDINGS, "recording"))
    return Opened(
        {split: Files(str(files.folder), encoded(files.names), files.labels) for split, files in splits.items()},
        classes,
    )


def open_rows(source: str, features: tuple[str, str], broken: Broken, say: Any) -> Opened:
    """Opens a `.tsv` or `.jsonl`, or a folder of them: files, with paths relative to it, and a text each."""
    path = Path(source).expanduser()
    if path.is_dir() and any((path / f"train{suffix}").is_file() for suffix in SUFFIXES):
        tables = [entry for entry in sorted(path.iterdir()) if entry.suffix in SUFFIXES and entry.stem in SPLITS]
    else:
        tables = [path]
    splits = {}
    for table in tables:
        rows, *_ = open_table(str(table), Columns(features, "AUDIO TEXT", "recording"), broken=broken, say=say)
        folder = table if table.is_dir() else table.parent
        files, texts = ([row[feature] for row in rows] for feature in features)
        splits[table.stem if len(tables) > 1 else "train"] = Files(str(folder.resolve()), encoded(files), texts)
    return Opened(splits)


def open_tfds(name: str, features: tuple[str, ...], own: str) -> Opened:
    """Opens a TFDS data set; `features` name the audio and, if there are two, the text or class.

    Raises:
        DataError: there is no such data set, or it has no such features.
    """
    import tensorflow_datasets as tfds

    builder = tfds_builder(name, features, own, "", "set --data.features to the names of the features")
    about = builder.info.features
    audio, value = features[0], features[1] if len(features) > 1 else ""
    rate = about[audio].sample_rate if isinstance(about[audio], tfds.features.Audio) else None
    if not rate:
        raise DataError(f"the feature `{audio}` of the TFDS data set {name!r} is no audio with a sampling rate")
    splits = {
        split: Records(
            tfds_split(builder, split),
            audio,
            value,
            int(rate),
            f"{builder.info.full_name}, {split}",
            f"{shard_states(builder, split)}",
        )
        for split in builder.info.splits
    }
    classes = bool(value) and isinstance(about[value], tfds.features.ClassLabel)
    return Opened(splits, tuple(about[value].names) if classes else ())


def is_path(source: str) -> bool:
    """Whether a source is a path rather than a TFDS name."""
    path = Path(source).expanduser()
    return path.exists() or path.suffix.lower() in SUFFIXES or source.startswith((".", "/", "~"))


def existing(source: str, wanted: str) -> Path:
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"there is no {path}: {on_disk(path, '; ')}give {wanted}")
    return path


def encoded(names: Sequence[str]) -> np.ndarray:
    return np.array([os.fsencode(name) for name in names])
