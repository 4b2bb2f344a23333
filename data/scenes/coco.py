"""Folders in COCO's formats: boxes and masks of instances, and panoptic maps (Lin et al., "Microsoft COCO: Common Objects in
Context", 2014, arXiv 1405.0312; Kirillov et al., "Panoptic Segmentation", 2018, arXiv 1801.00868)."""

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from data.errors import DataError
from data.images.pictures import ENDINGS
from data.scenes.coco_masks import decoded_mask, mask_error
from data.scenes.items import Annotation, Files, Size, packed
from data.scenes.maps import SPLITS, digest_of, encoded, read_map, segments_of
from data.scenes.opening import Opened, ReadingSettings

SLACK = 1.0
"""Pixels by which a box may exceed its picture, from rounding; the excess is cut off."""

ENTRIES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": (str,), "height": (int,), "width": (int,)},
    "annotations": {"image_id": (int, str)},
    "categories": {"id": (int,), "name": (str,)},
    "segments_info": {"id": (int,), "category_id": (int,)},
}
"""What entries of a file must have, and of which types."""
OPTIONAL = ("height", "width")

UNNAMED = "N/A"
"""The name of an id that no category has."""


def open_instances(folder: Path, settings: ReadingSettings) -> Opened | None:
    """Opens a folder with `annotations/*.json` of instances; `None` if it has none."""
    return _opened(folder, settings, panoptic=False)


def open_panoptic(folder: Path, settings: ReadingSettings) -> Opened | None:
    """Opens a folder with `annotations/*.json` of segments and a folder of PNGs beside each; `None` if it has none."""
    return _opened(folder, settings, panoptic=True)


def _opened(folder: Path, settings: ReadingSettings, panoptic: bool) -> Opened | None:
    files = {path: read_json(path) for path in sorted((folder / "annotations").glob("*.json"))}
    files = {
        path: content for path, content in files.items() if is_panoptic(content) == panoptic and content["annotations"]
    }
    if not files:
        return None
    categories = {}
    for path, content in files.items():
        for one in content["categories"]:
            known = categories.setdefault(one["id"], one)
            if known["name"] != one["name"]:
                raise DataError(f"{path}: category {one['id']} is {one['name']!r} here and {known['name']!r} elsewhere")
    if not categories:
        raise DataError(f"{next(iter(files))} names no categories")
    ids = list(range(max(categories) + 1)) if settings.raw_ids else sorted(categories)
    labels = {category: label for label, category in enumerate(ids) if category in categories}
    splits, broken = {}, []
    for path, content in files.items():
        split = split_of(path.stem)
        if split in splits:
            raise DataError(f"{path} is a second file of the split {split!r}: leave one of them there")
        file = AnnotationFile(path, content, labels, broken)
        annotations = file.panoptic() if panoptic else file.instances()
        pictures = picture_folder(folder, path.stem, split, file.names)
        splits[split] = Files(str(pictures), encoded(file.names), annotations, masked=annotations.masked)
    stuff = tuple(label for one, label in labels.items() if panoptic and not categories[one].get("isthing", 1))
    names = tuple(str(categories[one]["name"]) if one in categories else UNNAMED for one in ids)
    return Opened(names, splits, tuple(ids), stuff, tuple(broken))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file of annotations.

    Raises:
        DataError: the file is not in COCO's format.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    missing = [
        name for name in ("images", "annotations", "categories") if not isinstance(content, dict) or name not in content
    ]
    if missing and isinstance(content, dict) and "images" in content:
        return {"annotations": [], **content}  # of pictures alone, as COCO has for its test set
    if missing:
        raise DataError(
            f"{path} has no {missing[0]!r}: expected images, annotations and categories, as COCO's files have"
        )
    wrong = next(
        filter(None, (entry_error(content[name], name) for name in ("images", "annotations", "categories"))), None
    )
    if wrong is not None:
        raise DataError(f"{path}: {wrong}")
    return content


def entry_error(entries: Any, name: str) -> str | None:
    """What is wrong with the list of this name; `None` where each of its entries has what `ENTRIES` wants."""
    if not isinstance(entries, list):
        return f"{name} is a {type(entries).__name__}, where a list is expected"
    for place, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            return f"entry {place} of {name} is {entry!r}, where names and values are expected"
        for field, kinds in ENTRIES[name].items():
            if field in OPTIONAL and field not in entry:
                continue
            if not isinstance(entry.get(field), kinds) or isinstance(entry[field], bool):
                words = " or ".join(kind.__name__ for kind in kinds)
                return f"entry {place} of {name} has the {field} {entry.get(field)!r}, where {words} is expected"
            if field in ("height", "width") and entry[field] < 1:
                return f"entry {place} of {name} has the {field} {entry[field]}, where 1 or more is expected"
    return None


def is_panoptic(content: Mapping[str, Any]) -> bool:
    return bool(content["annotations"]) and "segments_info" in content["annotations"][0]


def split_of(stem: str) -> str:
    """The split in a file's name: `instances_val2017` → `validation`; `train` if it names none."""
    words = re.findall(r"[a-z]+", stem.lower())
    return next((split for split, names in SPLITS.items() if set(names) & set(words)), "train")


def picture_folder(folder: Path, stem: str, split: str, names: Sequence[str]) -> Path:
    """The folder of the pictures that a file of annotations names.

    Raises:
        DataError: no folder at the usual places has them.
    """
    end = stem.rpartition("_")[2]
    places = [end, f"images/{end}", *SPLITS[split], *(f"images/{name}" for name in SPLITS[split]), "images", "."]
    for place in places:
        if names and (folder / place / names[0]).is_file():
            return folder / place
    first = names[0] if names else f"*{ENDINGS[0]}"
    raise DataError(
        f"{folder} holds no picture {first}, in none of {', '.join(places)}: put the pictures of {stem} there"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotationFile:
    """A file of annotations.

    Attributes:
        labels: label of each category id.
        broken: errors in annotations, which are left out; collected while reading.
    """

    path: Path
    content: Mapping[str, Any]
    labels: Mapping[int, int]
    broken: list[str]

    @functools.cached_property
    def images(self) -> list[Mapping[str, Any]]:
        images = sorted(self.content["images"], key=lambda image: image["id"])
        twice = {one["id"] for one, other in itertools.pairwise(images) if one["id"] == other["id"]}
        if twice:
            raise DataError(f"{self.path} has two pictures of id {min(twice)}")
        return images

    @property
    def names(self) -> list[str]:
        return [image["file_name"] for image in self.images]

    @property
    def digest(self) -> str:
        return digest_of(json.dumps(self.content, sort_keys=True).encode())

    def by_picture(self) -> list[list[Mapping[str, Any]]]:
        """The annotations of each picture, by their ids."""
        places = {image["id"]: place for place, image in enumerate(self.images)}
        found: list[list] = [[] for _ in places]
        for number, one in enumerate(self.content["annotations"]):
            if one.get("image_id") not in places:
                self.broken.append(f"{self.path}: annotation {one.get('id', number)} is of no picture that is there")
            else:
                found[places[one["image_id"]]].append(one)
        return found

    def instances(self) -> "Instances":
        """The boxes and masks of instances. A broken one is left out, and its error added to `broken`."""
        rows = []
        for image, some in zip(self.images, self.by_picture(), strict=True):
            size = (image["height"], image["width"]) if {"height", "width"} <= set(image) else None
            kept = [(*good, one) for one in some if (good := self._instance(one, size)) is not None]
            rows.append((size, kept))
        return Instances(self.digest, rows)

    def _instance(self, one: Mapping[str, Any], size: Size | None) -> tuple[int, np.ndarray] | None:
        """The label and the box of an annotation; `None` if it is broken."""
        wrong, box = "", np.zeros(4)
        try:
            left, top, width, height = map(float, one["bbox"])
            box[:] = left, top, left + width, top + height
        except (KeyError, TypeError, ValueError):
            wrong = f"has the bbox {one.get('bbox')!r}, where (left, top, width, height) is expected"
        if not wrong and not (isinstance(one.get("category_id"), int) and one["category_id"] in self.labels):
            wrong = f"is of category {one.get('category_id')!r}, which has no name"
        if not wrong and not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
            wrong = f"has a box without any pixel, {one['bbox']}"
        if not wrong and size is not None:
            edges = np.tile(size[::-1], 2)
            if (box < -SLACK).any() or (box > edges + SLACK).any():
                wrong = f"has the box {one['bbox']}, which lies outside of its picture of {size[0]} × {size[1]} pixels"
            box = np.clip(box, 0, edges)
            if not wrong and not (box[2:] > box[:2]).all():
                wrong = f"has a box without any pixel in the picture, {one['bbox']}"
        wrong = wrong or mask_error(one.get("segmentation"), size)
        if wrong:
            self.broken.append(f"{self.path}: annotation {one.get('id', '?')} {wrong}")
            return None
        return self.labels[one["category_id"]], box

    def panoptic(self) -> "Panoptic":
        """The segments of each picture's map."""
        maps, segments = self.path.with_suffix(""), []
        by_name = {one["image_id"]: one for one in self.content["annotations"]}
        files = []
        for image in self.images:
            one = by_name.get(image["id"], {"segments_info": []})
            if wrong := entry_error(one.get("segments_info"), "segments_info"):
                raise DataError(f"{self.path}: of {image['file_name']}, {wrong}")
            files.append(str(maps / one.get("file_name", Path(image["file_name"]).with_suffix(".png").name)))
            kept = []
            for segment in one["segments_info"]:
                if segment.get("category_id") in self.labels:
                    kept.append((segment["id"], self.labels[segment["category_id"]], bool(segment.get("iscrowd", 0))))
                else:
                    self.broken.append(
                        f"{self.path}: segment {segment.get('id')} of {image['file_name']} is of category"
                        f" {segment.get('category_id')!r}, which has no name"
                    )
            segments.append(kept)
        return Panoptic(self.digest, tuple(files), segments)


@dataclasses.dataclass(frozen=True, eq=False)
class Instances:
    """Annotations of instances.

    Attributes:
        rows: for each picture its size and its annotations, each with label and box.
    """

    digest: str
    rows: Sequence[tuple[Size | None, list[tuple[int, np.ndarray, Mapping[str, Any]]]]]
    files: tuple[str, ...] = ()

    @property
    def masked(self) -> bool:
        """Whether all have masks."""
        return all(size is not None for size, some in self.rows if some) and all(
            one.get("segmentation") for _, some in self.rows for *_, one in some
        )

    def said(self, index: int) -> Size | None:
        return self.rows[index][0]

    def count(self, index: int) -> int:
        return sum(not one.get("iscrowd", 0) for *_, one in self.rows[index][1])

    def __getitem__(self, index: int) -> Annotation:
        size, some = self.rows[index]
        crowd = np.array([bool(one.get("iscrowd", 0)) for *_, one in some], bool)
        masks: Callable | None = None
        if size is not None and all(one.get("segmentation") for *_, one in some):
            masks = functools.partial(self._masks, index)
        return Annotation(
            size,
            np.array([label for label, *_ in some], np.int32),
            np.array([box for _, box, _ in some], np.float64).reshape(-1, 4),
            crowd,
            np.array([float(one.get("area", np.prod(one["bbox"][2:]))) for *_, one in some], np.float64),
            masks=masks,
        )

    def _masks(self, index: int) -> UInt8[np.ndarray, "objects height width"]:
        size, some = self.rows[index]
        masks = [decoded_mask(one["segmentation"], size) for *_, one in some]
        return np.stack(masks) if masks else np.zeros((0, *size), np.uint8)

    def examine(self, content: bytes, name: str, *, decode: bool = False) -> int:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Panoptic:
    """Annotations of segments, in maps.

    Attributes:
        segments: for each picture (id, label, whether it is a crowd).
    """

    masked: ClassVar[bool] = True

    digest: str
    files: tuple[str, ...]
    segments: Sequence[list[tuple[int, int, bool]]]

    def said(self, index: int) -> Size | None:
        return None

    def count(self, index: int) -> int:
        return sum(not crowd for *_, crowd in self.segments[index])

    def __getitem__(self, index: int) -> Annotation:
        ids, labels, crowd = zip(*self.segments[index], strict=True) if self.segments[index] else ((), (), ())
        return segments_of(read_map(self.files[index]), ids, labels, crowd)

    def examine(self, content: bytes, name: str, *, decode: bool = False) -> int:
        return packed(read_map(content, name).shape)
