"""Segment maps and class maps: a number for each pixel, in demos, ADE20K's folders and COCO's panoptic PNGs."""

import abc
import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from PIL import Image

from data.errors import DataError
from data.files import files_below
from data.images.pictures import ENDINGS, opened
from data.scenes.items import Annotation, Files, Size, packed
from data.scenes.opening import Opened, ReadingSettings
from data.scenes.scene import boxes_of, masks_of

Map = Int32[np.ndarray, "height width"]

NOTHING = 255
"""The number of no class in a PNG of classes."""

PANOPTIC_PLACES = np.array([1, 256, 65_536])
"""Place values of red, green and blue in a panoptic PNG."""


def read_map(source: str | bytes | np.ndarray, name: str = "") -> Map:
    """Reads the numbers in a PNG: grey of 8 or 16 bits, palette indices, or red + 256 green + 65536 blue.

    Raises:
        DataError: it is no picture, or a broken one.
    """
    if isinstance(source, np.ndarray) and source.dtype != np.uint8:
        return source.reshape(source.shape[:2]).astype(np.int32)
    with opened(source, name) as image:
        numbers = np.asarray(image if image.mode in ("L", "P", "RGB") or image.mode.startswith("I;16") else None)
        if numbers.dtype == object:
            raise DataError(f"{name or source} is of mode {image.mode}, where grey, a palette or RGB is expected")
        return numbers @ PANOPTIC_PLACES if numbers.ndim == 3 else numbers.astype(np.int32)


def segments_of(
    segments: Map, ids: Sequence[int], labels: Sequence[int], crowd: Sequence[bool] | None = None
) -> Annotation:
    """The annotation of a segment map: the segments of these ids that have a pixel."""
    there = np.isin(ids, np.unique(segments))
    kept = np.asarray(ids, np.int64)[there]
    masks = masks_of(segments, kept)
    flags = np.zeros(len(ids), bool) if crowd is None else np.asarray(crowd, bool)
    return Annotation(
        segments.shape, np.asarray(labels, np.int32)[there], boxes_of(masks), flags[there], masks=lambda: masks
    )


def classes_of(numbers: Map, classes: int, reduce_labels: bool, name: str) -> Annotation:
    """The annotation of a class map, with an object for each class that has a pixel.

    Raises:
        DataError: a class is out of range.
    """
    ids = [int(number) for number in np.unique(numbers) if number != NOTHING and not (reduce_labels and number == 0)]
    labels = [number - reduce_labels for number in ids]
    if ids and not 0 <= labels[-1] < classes:
        raise DataError(
            f"{name} has the class {ids[-1]}, and there are {classes} classes, from {int(reduce_labels)} on ({NOTHING} is none)"
        )
    return segments_of(numbers, ids, labels)


@dataclasses.dataclass(frozen=True)
class Maps(abc.ABC):
    """Annotations that are maps, each in a PNG of its own."""

    files: tuple[str, ...]

    @abc.abstractmethod
    def shape(self, content: bytes, name: str) -> Size:
        """(height, width) of a decoded map. Raises `DataError` if it is broken."""

    def said(self, index: int) -> None:
        return None

    def count(self, index: int) -> int:
        return 0

    def examine(self, content: bytes, name: str, *, decode: bool = False) -> int:
        if decode:
            return packed(self.shape(content, name))
        with Image.open(io.BytesIO(content)) as image:
            return packed((image.height, image.width))


@dataclasses.dataclass(frozen=True)
class ClassMaps(Maps):
    """Class maps."""

    classes: int
    reduce_labels: bool

    @property
    def digest(self) -> str:
        return f"{self.classes} classes, reduced {self.reduce_labels}"

    def __getitem__(self, index: int) -> Annotation:
        path = self.files[index]
        return classes_of(read_map(path), self.classes, self.reduce_labels, path)

    def shape(self, content: bytes, name: str) -> Size:
        return classes_of(read_map(content, name), self.classes, self.reduce_labels, name).size


SPLITS = {"train": ("train", "training"), "validation": ("validation", "val"), "test": ("test", "testing")}
"""Names of the folders of a split."""


def paired(folder: Path, pictures: str, maps: str) -> dict[str, tuple[Path, list[str], list[str]]]:
    """For each split the folder of pictures, their names, and the PNG of the same name for each. They are looked for in
    `images/SPLIT` and `annotations/SPLIT`, in `SPLIT/images` and `SPLIT/annotations`, and in both without splits.

    Raises:
        DataError: a picture has no map.
    """
    found = {}
    for split, names in SPLITS.items():
        for name in names:
            for one, other in (
                (folder / pictures / name, folder / maps / name),
                (folder / name / pictures, folder / name / maps),
            ):
                if one.is_dir() and other.is_dir():
                    found[split] = (one, *_matched(one, other))
    if not found and (folder / pictures).is_dir() and (folder / maps).is_dir():
        found["train"] = (folder / pictures, *_matched(folder / pictures, folder / maps))
    return {split: parts for split, parts in found.items() if parts[1]}


def _matched(pictures: Path, maps: Path) -> tuple[list[str], list[str]]:
    names = files_below(pictures, ENDINGS)
    by_stem = {os.path.splitext(name)[0]: str(maps / name) for name in files_below(maps, (".png",))}
    if not by_stem:
        return [], []
    missing = [name for name in names if os.path.splitext(name)[0] not in by_stem]
    if missing:
        raise DataError(f"{pictures / missing[0]} has no {os.path.splitext(missing[0])[0]}.png in {maps}")
    return names, [by_stem[os.path.splitext(name)[0]] for name in names]


def open_semantic(folder: Path, settings: ReadingSettings) -> Opened | None:
    """Opens a folder with `images/` and `annotations/`, a PNG of classes for each picture; `None` if it has none.

    Names of classes are read from `classes.txt`, a line each, or from ADE20K's `objectInfo150.txt`.
    """
    splits = paired(folder, "images", "annotations")
    if not splits:
        return None
    classes, reduce_labels = _class_names(folder), settings.reduce_labels
    return Opened(
        classes,
        {
            split: Files(str(place), encoded(names), ClassMaps(tuple(maps), len(classes), reduce_labels))
            for split, (place, names, maps) in splits.items()
        },
        stuff=tuple(range(len(classes))),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    for name in ("classes.txt", "objectInfo150.txt"):
        if (folder / name).is_file():
            lines = [
                line.strip() for line in (folder / name).read_text(encoding="utf-8-sig").splitlines() if line.strip()
            ]
            if name == "classes.txt":
                return tuple(lines)
            return tuple(line.split("\t")[-1].strip() for line in lines[1:])
    raise DataError(f"{folder} has no classes.txt: write the names of the classes there, a line each, by number")


def encoded(names: Sequence[str]) -> np.ndarray:
    """File names as `Files` stores them."""
    return np.array([os.fsencode(name) for name in names])


def digest_of(*contents: bytes) -> str:
    """A hash of files."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]
