"""Files of pictures and depth maps: folders of both, and lists as NYU and KITTI publish them."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from data.errors import DataError
from data.images.pictures import opened
from data.scenes.items import Annotation, Files, Size
from data.scenes.maps import Maps, encoded, paired
from data.scenes.opening import Opened, ReadingSettings

Depth = Float32[np.ndarray, "height width"]


def open_folder(folder: Path, settings: ReadingSettings) -> Opened | None:
    """Opens a folder with `images/` and `depth/`, a PNG of depth for each picture; `None` if it has none."""
    splits = paired(folder, "images", "depth")
    if not splits:
        return None
    found = {
        split: Files(str(place), encoded(names), DepthMaps(tuple(maps), settings.depth_scale), False, True)
        for split, (place, names, maps) in splits.items()
    }
    return Opened((), found)


def open_list(path: Path, settings: ReadingSettings) -> Opened:
    """Opens a list with a line for each picture: its path and that of its depth, relative to the list; the rest of a line is
    ignored. A picture without depth (`None`) is left out. Beside `…train….txt` the list with `val` or `test` in its name is
    held out.

    Raises:
        DataError: a line has fewer than two paths, or a file is missing.
    """
    splits = {"train": path}
    for word in ("val", "test"):
        other = path.with_name(path.name.replace("train", word))
        if other != path and other.is_file():
            splits.setdefault("validation", other)
    found = {}
    for split, file in splits.items():
        rows = [line.split() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
        if short is not None:
            raise DataError(f"{file}, line {short}: expected the paths of a picture and of its depth")
        rows = [[part.lstrip("/") for part in row] for row in rows if row[1] != "None"]
        maps = tuple(str(file.parent / row[1]) for row in rows)
        missing = next((one for one in maps if not Path(one).is_file()), None)
        if missing is not None:
            raise DataError(f"{file} names {missing}, and there is none")
        names = encoded([row[0] for row in rows])
        found[split] = Files(str(file.parent), names, DepthMaps(maps, settings.depth_scale), False, True)
    return Opened((), found)


def checked_depth(depth: np.ndarray, name: str, skip: bool) -> Depth:
    """Depth in metres, 0 where it was not measured.

    Args:
        skip: treat negative and non-finite depth as not measured.

    Raises:
        DataError: some depth is negative or not finite, without `skip`.
    """
    depth = np.asarray(depth, np.float32)
    wrong = ~(np.isfinite(depth) & (depth >= 0))
    if not wrong.any():
        return depth
    if not skip:
        raise DataError(
            f"the depth of {name} is negative or not finite at {int(wrong.sum()):,} pixels, and 0 is expected where nothing"
            " was measured; --data.broken skip takes them for that"
        )
    return np.where(wrong, np.float32(0), depth)


@dataclasses.dataclass(frozen=True)
class DepthMaps(Maps):
    """Depth maps in PNGs of 8 or 16 bits, in units of 1 / `scale` metres."""

    scale: float

    @property
    def digest(self) -> str:
        return f"depth / {self.scale}"

    def __getitem__(self, index: int) -> Annotation:
        path = self.files[index]
        with Image.open(path) as image:
            size = (image.height, image.width)
        return Annotation(size, depth=lambda: read_depth(path, path, self.scale))

    def shape(self, content: bytes, name: str) -> Size:
        return read_depth(content, name, self.scale).shape


def read_depth(source: str | bytes, name: str, scale: float) -> Depth:
    """Reads the depth from a PNG, in metres.

    Raises:
        DataError: it is no picture, or in colour.
    """
    with opened(source, name) as image:
        if image.mode != "L" and not image.mode.startswith("I;16"):
            raise DataError(f"{name} is of mode {image.mode}, where grey of 8 or 16 bits is expected")
        return np.asarray(image).astype(np.float32) / np.float32(scale)
