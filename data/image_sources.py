"""Where labelled pictures come from: folders of class folders, TFDS data sets, the digits of scikit-learn."""

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int32, UInt8

from data import documents
from data.errors import DataError
from data.pictures import ENDINGS, Source

SKLEARN_DIGITS = "sklearn_digits"

TRAINING, HELD_OUT = ("train", "training"), ("validation", "val", "valid")
"""What the folders of a split are called, and the splits of a TFDS data set."""

LABELS = ("label", "real_label")
"""What a TFDS data set may call the class of a picture, or its classes: any number of them, none too, in `imagenet2012_real`."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, its class (of a source with several, which are there), and what to call it in a sentence."""

    source: Source
    label: int | tuple[int, ...]
    name: str


class Pictures(Protocol):
    """Pictures in a fixed order, read one at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Picture: ...


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a source holds.

    Attributes:
        classes: the names of the classes, by label.
        splits: the pictures of each split, by its name.
        fingerprint: changes with the pictures, and nothing else.
        several: a picture has a tuple of classes, in the place of one.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Pictures]
    fingerprint: str
    several: bool = False


def open_pictures(source: str) -> Opened:
    """The pictures that `source` names.

    Args:
        source: `sklearn_digits` (1,797 handwritten digits of 8 × 8 pixels, which come with the `demo` extra); a folder with a
            folder of pictures for each class, or with folders `train` and `validation` (`val`) of those; or the name of a
            TFDS data set of pictures with labels, such as `imagenet2012` or `cifar10`.

    Raises:
        DataError: there is nothing to read there, in a sentence that says where to mend it.
    """
    path = Path(source).expanduser()
    if source == SKLEARN_DIGITS:
        return _sklearn_digits()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        raise DataError(f"{path} is no folder: give one that holds a folder of pictures for each class")
    if path.is_absolute() or source.startswith((".", "~")):
        raise DataError(f"there is no folder {path}: give one of class folders, {SKLEARN_DIGITS} or a TFDS name")
    return _tfds(source)


@dataclasses.dataclass(frozen=True)
class Arrays(Sequence):
    """Pictures that lie in memory."""

    pixels: UInt8[np.ndarray, "pictures height width"]
    labels: Int32[np.ndarray, " pictures"]
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Picture:
        return Picture(self.pixels[index], int(self.labels[index]), f"picture {index} of {self.name}")


def _sklearn_digits() -> Opened:
    if importlib.util.find_spec("sklearn") is None:
        raise DataError("the digits come with scikit-learn, which is missing: install the `demo` extra")
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Their values are the numbers of set pixels in 4 × 4: from 0 to 16.
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    fingerprint = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()[:32]
    return Opened(tuple(map(str, range(10))), {"train": Arrays(pixels, labels, SKLEARN_DIGITS)}, fingerprint)


@dataclasses.dataclass(frozen=True)
class Files(Sequence):
    """Pictures that are files, decoded when asked for; a million names take no more memory than their letters."""

    folder: str
    names: np.ndarray
    labels: Int32[np.ndarray, " pictures"]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Picture:
        path = os.path.join(self.folder, os.fsdecode(self.names[index]))
        return Picture(path, int(self.labels[index]), path)


def _folder(folder: Path) -> Opened:
    subfolders = _subfolders(folder)
    training = next((name for name in TRAINING if name in subfolders), None)
    if training is None:
        classes, states = tuple(subfolders), []
        splits = {"train": _files(folder, classes, states)}
    else:
        held_out = next((name for name in HELD_OUT if name in subfolders), None)
        classes, states = tuple(_subfolders(folder / training)), []
        splits = {"train": _files(folder / training, classes, states)}
        if held_out is not None:
            strange = sorted(set(_subfolders(folder / held_out)) - set(classes))
            if strange:
                raise DataError(f"{folder / held_out} has a class {strange[0]!r}, which {folder / training} lacks")
            there = tuple(name for name in classes if (folder / held_out / name).is_dir())
            splits["validation"] = _files(folder / held_out, there, states, classes)
    return Opened(classes, splits, hashlib.sha256(repr((classes, states)).encode()).hexdigest()[:32])


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, there: tuple[str, ...], states: list, classes: tuple[str, ...] | None = None) -> Files:
    """The pictures of the class folders `there`; their names and sizes go to `states`."""
    if not there:
        raise DataError(f"{folder} holds no folder: give one that holds a folder of pictures for each class")
    classes = classes or there
    if len(classes) < 2:
        raise DataError(f"{folder} holds the one class {there[0]!r}, and to tell classes apart it takes two")
    names, labels = [], []
    for name in there:
        found = sorted(_pictures(folder / name))
        if not found:
            raise DataError(
                f"the class folder {folder / name} holds no picture ({', '.join(ENDINGS)}): put some there, or remove it"
            )
        states += [(f"{name}/{path}", size) for path, size in found]
        names += [f"{name}/{path}" for path, _ in found]
        labels += [classes.index(name)] * len(found)
    return Files(str(folder), np.array([os.fsencode(name) for name in names]), np.array(labels, np.int32))


def _pictures(folder: Path) -> list[tuple[str, int]]:
    """Name and size of each picture in a folder or below it."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                path = os.path.join(root, name)
                found.append((os.path.relpath(path, folder), os.stat(path).st_size))
    return found


@dataclasses.dataclass(frozen=True)
class Records(Sequence):
    """Pictures of a TFDS data set; they come as the bytes of their files, which no TensorFlow is needed to decode."""

    items: Sequence[Mapping[str, Any]]
    label: str
    classes: int
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Picture:
        item = self.items[index]
        name, found = f"picture {index} of {self.name}", np.asarray(item[self.label])
        for label in found.ravel():
            if not 0 <= label < self.classes:
                raise DataError(f"{name} has the label {label}, and there are {self.classes} classes, from 0 on")
        return Picture(item["image"], tuple(map(int, found)) if found.ndim else int(found), name)


def _tfds(name: str) -> Opened:
    import tensorflow_datasets as tfds

    builder = documents.tfds_builder(
        name, ("image",), "a folder of class folders", SKLEARN_DIGITS, "choose a data set of pictures"
    )
    features = builder.info.features
    label = next((label for label in LABELS if label in features), None)
    if label is None:
        raise DataError(f"the TFDS data set {name!r} has no feature `label`, but {', '.join(features)}")
    several = isinstance(features[label], tfds.features.Sequence)
    kept = [feature for feature, kind in features.items() if isinstance(kind, tfds.features.Image)]
    decoders = {feature: tfds.decode.SkipDecoding() for feature in kept}
    classes = tuple((features[label].feature if several else features[label]).names)
    splits = {
        split: Records(
            documents.tfds_split(builder, split, decoders), label, len(classes), f"{builder.info.full_name}, {split}"
        )
        for split in builder.info.splits
    }
    info = (Path(builder.data_dir) / "dataset_info.json").read_bytes()
    return Opened(classes, splits, hashlib.sha256(info).hexdigest()[:32], several)
