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

from data.class_folders import Wanted, class_folders
from data.contents import Content, Contents, content_hash, read_all
from data.errors import DataError
from data.file_contents import SMALL, Reading, file_contents
from data.files import locked, on_disk
from data.images.pictures import ENDINGS, Source, examine
from data.tfds import shard_states, tfds_builder, tfds_split

SKLEARN_DIGITS = "sklearn_digits"

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

    def contents(self, reading: Reading) -> Contents | None:
        """The contents of the pictures, which are read once and remembered; `None` where they were not and are not to be."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a source holds.

    Attributes:
        classes: the names of the classes, by label.
        splits: the pictures of each split, by its name.
        version: of a data set that has one, its name and number; it stands for the contents of all.
        several: a picture has a tuple of classes, in the place of one.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Pictures]
    version: str = ""
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
        raise DataError(
            f"there is no folder {path}: {on_disk(path, '; ')}give one of class folders, {SKLEARN_DIGITS} or a TFDS"
            " name"
        )
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

    def contents(self, reading: Reading) -> Contents:
        return Contents.of([Content(content_hash(pixels.tobytes()), pixels.size) for pixels in self.pixels])


def _sklearn_digits() -> Opened:
    if importlib.util.find_spec("sklearn") is None:
        raise DataError("the digits come with scikit-learn, which is missing: install the `demo` extra")
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Their values are the numbers of set pixels in 4 × 4: from 0 to 16.
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    return Opened(tuple(map(str, range(10))), {"train": Arrays(pixels, labels, SKLEARN_DIGITS)})


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

    def contents(self, reading: Reading) -> Contents:
        return file_contents(self.folder, self.names, reading)


def _folder(folder: Path) -> Opened:
    classes, splits = class_folders(folder, Wanted(ENDINGS, "picture"))
    return Opened(
        classes,
        {
            split: Files(str(files.folder), np.array([os.fsencode(name) for name in files.names]), files.labels)
            for split, files in splits.items()
        },
    )


@dataclasses.dataclass(frozen=True)
class Records(Sequence):
    """Pictures of a TFDS data set; they come as the bytes of their files, which no TensorFlow is needed to decode."""

    items: Sequence[Mapping[str, Any]]
    label: str
    classes: int
    name: str
    state: str
    bytes: int

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Picture:
        item = self.items[index]
        name, value = f"picture {index} of {self.name}", np.asarray(item[self.label])
        for label in value.ravel():
            if not 0 <= label < self.classes:
                raise DataError(f"{name} has the label {label}, and there are {self.classes} classes, from 0 on")
        return Picture(item["image"], tuple(map(int, value)) if value.ndim else int(value), name)

    def contents(self, reading: Reading) -> Contents | None:
        key = hashlib.sha256(f"{self.state}, {self.name}".encode()).hexdigest()[:32]
        headers, whole = (reading.cache / "pictures" / f"{key}-{depth}.npz" for depth in ("headers", "decoded"))
        small = self.bytes <= SMALL
        decode, read = reading.decode or small, reading.read or small
        path = whole if decode or whole.exists() else headers
        if not read and not path.exists():
            return None
        with locked(path):
            if reading.again or not path.exists():
                Contents.of(read_all(lambda index: self._content(index, decode), len(self), reading.progress)).save(
                    path
                )
            return Contents.load(path)

    def _content(self, index: int, decode: bool) -> Content:
        try:
            picture = self[index]
            pixels = examine(picture.source, picture.name, decode=decode)
        except DataError as error:
            return Content(broken=str(error))
        content = picture.source if isinstance(picture.source, bytes) else np.asarray(picture.source).tobytes()
        return Content(content_hash(content), pixels)


def _tfds(name: str) -> Opened:
    import tensorflow_datasets as tfds

    builder = tfds_builder(
        name, ("image",), "a folder of class folders", SKLEARN_DIGITS, "choose a data set of pictures"
    )
    features = builder.info.features
    label = next((label for label in LABELS if label in features), None)
    if label is None:
        raise DataError(f"the TFDS data set {name!r} has no feature `label`, but {', '.join(features)}")
    several = isinstance(features[label], tfds.features.Sequence)
    kept = [feature for feature, feature_type in features.items() if isinstance(feature_type, tfds.features.Image)]
    decoders = {feature: tfds.decode.SkipDecoding() for feature in kept}
    classes = tuple((features[label].feature if several else features[label]).names)
    full_name = builder.info.full_name
    version = repr((full_name, [(s, x.shard_lengths, x.num_bytes) for s, x in sorted(builder.info.splits.items())]))
    splits = {
        split: Records(
            tfds_split(builder, split, decoders),
            label,
            len(classes),
            f"{full_name}, {split}",
            f"{shard_states(builder, split)}",
            about.num_bytes,
        )
        for split, about in builder.info.splits.items()
    }
    return Opened(classes, splits, version, several)
