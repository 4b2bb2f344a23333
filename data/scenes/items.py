"""The scenes of a source: pictures in files or records with their annotations, read one at a time."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from PIL import Image

from data.contents import Content, Contents, content_hash, read_all
from data.errors import DataError
from data.file_contents import SMALL, Reading, file_contents
from data.files import locked
from data.images.pictures import Source, decoded, examine, opened, upright_size
from data.scenes.scene import Boxes, Masks, Scene

Size = tuple[int, int]
"""(height, width)."""

NO_BOXES, NO_LABELS = np.zeros((0, 4)), np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """The annotation of a picture. Masks and depth are functions, called on demand.

    Attributes:
        size: (height, width) of the annotated picture; `None` if unknown.
        labels, boxes, crowd, areas: of its objects, see `Scene`.
    """

    size: Size | None
    labels: Int32[np.ndarray, " objects"] = dataclasses.field(default_factory=NO_LABELS.copy)
    boxes: Boxes = dataclasses.field(default_factory=NO_BOXES.copy)
    crowd: Bool[np.ndarray, " objects"] | None = None
    areas: Float64[np.ndarray, " objects"] | None = None
    masks: Callable[[], Masks] | None = None
    depth: Callable[[], Float32[np.ndarray, "height width"]] | None = None


class Annotations(Protocol):
    """The annotations of files, in their order.

    Attributes:
        digest: hash of their contents.
        files: a file for each annotation; empty if one file holds them all.
    """

    digest: str
    files: tuple[str, ...]

    def __getitem__(self, index: int) -> Annotation: ...

    def said(self, index: int) -> Size | None:
        """The size of a picture according to them, if it is known without reading the annotation."""

    def count(self, index: int) -> int:
        """How many objects are trained on, where that takes no time; else 0."""

    def examine(self, content: bytes, name: str, *, decode: bool = False) -> int:
        """The packed size of an annotation that is a file. Raises `DataError` if it is broken."""


class Items(Protocol):
    """Scenes in a fixed order."""

    @property
    def digest(self) -> str:
        """Hash of the annotations that `contents` does not read."""

    @property
    def masked(self) -> bool:
        """Whether objects have masks."""

    @property
    def measured(self) -> bool:
        """Whether pixels have a depth."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> tuple[Source, str]:
        """The picture, and its name for errors."""

    def annotation(self, index: int) -> Annotation: ...

    def count(self, index: int) -> int:
        """How many objects are trained on, where that takes no time; else 0."""

    def contents(self, reading: Reading) -> Contents:
        """Hash and packed size of each scene."""


def packed(size: Size) -> int:
    """A size as one number, as `Contents` stores it."""
    return size[0] << 32 | size[1]


def unpacked(sizes: Int64[np.ndarray, " items"]) -> Int64[np.ndarray, "items 2"]:
    """(height, width) of each."""
    return np.stack([sizes >> 32, sizes & 0xFFFFFFFF], axis=1)


def packed_size(content: bytes | np.ndarray, name: str, *, decode: bool = False) -> int:
    """The packed size of a picture, upright. Raises `DataError` if it is broken, as `examine`."""
    examine(content, name, decode=decode)
    with opened(content, name) as image:
        return packed(upright_size(image))


def read_scene(items: Items, index: int, masks: bool = False, depth: bool = False) -> Scene:
    """Reads a scene, upright.

    Args:
        masks, depth: whether to read them.

    Raises:
        DataError: the picture or its annotation is broken, or they are of different sizes.
    """
    source, name = items.picture(index)
    annotation = items.annotation(index)
    with opened(source, name) as image:
        turned = annotation.size is not None and annotation.size != upright_size(image)
        if turned and annotation.size != (image.height, image.width):
            raise DataError(
                f"{name} has {image.height} × {image.width} pixels, and its annotation is of a picture of"
                f" {annotation.size[0]} × {annotation.size[1]}"
            )
        # Who annotated the pixels as they are stored did not see that the camera was turned.
        picture = np.asarray(image.convert("RGB") if turned else decoded(image))
    return Scene(
        picture,
        annotation.labels,
        annotation.boxes,
        annotation.masks() if masks and annotation.masks is not None else None,
        annotation.crowd,
        annotation.areas,
        annotation.depth() if depth and annotation.depth is not None else None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """Scenes whose pictures are files."""

    folder: str
    names: np.ndarray
    annotations: Annotations
    masked: bool = True
    measured: bool = False

    @property
    def digest(self) -> str:
        return self.annotations.digest

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> tuple[Source, str]:
        path = os.path.join(self.folder, os.fsdecode(self.names[index]))
        return path, path

    def annotation(self, index: int) -> Annotation:
        return self.annotations[index]

    def count(self, index: int) -> int:
        return self.annotations.count(index)

    def contents(self, reading: Reading) -> Contents:
        pictures = file_contents(self.folder, self.names, dataclasses.replace(reading, examine=packed_size))
        if not self.annotations.files:
            said = [self.annotations.said(index) for index in range(len(self))]
            sizes = [there if size is None else packed(size) for size, there in zip(said, pictures.sizes, strict=True)]
            broken = self._compared(pictures, np.array(sizes, np.int64), "its annotation is of a picture of")
            return Contents(pictures.hashes, pictures.sizes, broken)
        names = np.array([os.fsencode(name) for name in self.annotations.files])
        about = dataclasses.replace(reading, item="annotation", examine=self.annotations.examine)
        maps = file_contents(self.folder, names, about)
        known = Contents(pictures.hashes, pictures.sizes, {**maps.broken, **pictures.broken})
        broken = self._compared(known, maps.sizes, "its map has")
        return Contents(pictures.hashes ^ (maps.hashes << np.uint64(1)), pictures.sizes, broken)

    def _compared(self, pictures: Contents, sizes: Int64[np.ndarray, " items"], what: str) -> dict[int, str]:
        """The broken scenes: unreadable ones, and those whose annotation has another size than the picture."""
        broken = dict(pictures.broken)
        for index in np.flatnonzero(sizes != pictures.sizes).tolist():
            if index not in broken and not self._fits(index, int(sizes[index])):
                (there,), (said,) = unpacked(pictures.sizes[[index]]), unpacked(sizes[[index]])
                name = self.picture(index)[1]
                broken[index] = f"{name} has {there[0]} × {there[1]} pixels, and {what} {said[0]} × {said[1]}"
        return dict(sorted(broken.items()))

    def _fits(self, index: int, size: int) -> bool:
        """Whether the annotation has the size of the picture before it is turned upright."""
        with Image.open(self.picture(index)[0]) as image:
            return size == packed((image.height, image.width))


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Scenes of a TFDS data set.

    Attributes:
        annotate: makes the annotation of a record and its name for errors.
        image: name of the feature with the picture.
        state: a string that changes with the files.
        version: a string that changes with the data set.
        bytes: size of the data set.
    """

    items: Sequence[Mapping[str, Any]]
    annotate: Callable[[Mapping[str, Any], str], Annotation]
    name: str
    state: str
    bytes: int
    masked: bool = False
    measured: bool = False
    image: str = "image"
    version: str = ""

    @property
    def digest(self) -> str:
        return self.version

    def __len__(self) -> int:
        return len(self.items)

    def picture(self, index: int) -> tuple[Source, str]:
        return self.items[index][self.image], f"picture {index} of {self.name}"

    def annotation(self, index: int) -> Annotation:
        return self.annotate(self.items[index], f"picture {index} of {self.name}")

    def count(self, index: int) -> int:
        return 0

    def contents(self, reading: Reading) -> Contents:
        # What is left out of a scene is not broken: where that is done, other scenes are.
        key = hashlib.sha256(f"{self.state}, {self.name}, {reading.decode}".encode()).hexdigest()[:32]
        decode = reading.decode or self.bytes <= SMALL
        path = reading.cache / "scenes" / f"{key}-{'decoded' if decode else 'headers'}.npz"
        with locked(path):
            if reading.again or not path.exists():
                read = read_all(lambda index: self._content(index, decode), len(self), reading.progress)
                Contents.of(read).save(path)
            return Contents.load(path)

    def _content(self, index: int, decode: bool) -> Content:
        source, name = self.picture(index)
        try:
            size = packed_size(source, name, decode=decode)
            annotation = self.annotation(index)
            if decode:
                read_scene(self, index, self.masked, self.measured)
        except DataError as error:
            return Content(broken=str(error))
        content = source if isinstance(source, bytes) else np.asarray(source).tobytes()
        about = annotation.labels.tobytes() + annotation.boxes.tobytes()
        return Content(content_hash(content + about), size)
