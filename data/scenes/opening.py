"""Opens sources of scenes: folders in the formats of COCO, ADE20K and depth maps, TFDS data sets, and demos."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from data.errors import DataError
from data.files import on_disk
from data.scenes.items import Items

DEMOS = ("digit_scenes", "rendered_depth")


@dataclasses.dataclass(frozen=True)
class Opened:
    """The contents of a source.

    Attributes:
        classes: names of the classes, by label; empty if there is depth alone.
        splits: the scenes of each split, by its name.
        category_ids: the source's number of each class, by label; empty if that is the label.
        stuff: labels of classes without instances (sky, grass), which have one segment in a picture.
        broken: errors in annotations that were left out, a sentence each.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Items]
    category_ids: tuple[int, ...] = ()
    stuff: tuple[int, ...] = ()
    broken: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ReadingSettings:
    """How to read a source.

    Attributes:
        annotations: `instances`, `panoptic`, `semantic` or `depth`; empty for the first of these that the source has.
        reduce_labels: see `Scenes`.
        raw_ids: see `Scenes`.
        depth_scale: see `Scenes`.
        skip: whether broken annotations are left out.
        cache: folder of prepared data.
    """

    annotations: str
    reduce_labels: bool
    raw_ids: bool
    depth_scale: float
    skip: bool
    cache: Path


def open_scenes(source: str, settings: ReadingSettings) -> Opened:
    """Opens the scenes that `source` names.

    Raises:
        DataError: there is nothing to read, or it is of no known format.
    """
    from data.scenes import coco, demos, depth, maps, records

    path = Path(source).expanduser()
    if source.split("/")[0] in DEMOS:
        return demos.open_demo(source, settings)
    if path.is_file() and path.suffix == ".txt":
        return depth.open_list(path, settings)
    if path.is_dir():
        openers = {
            "instances": coco.open_instances,
            "panoptic": coco.open_panoptic,
            "semantic": maps.open_semantic,
            "depth": depth.open_folder,
        }
        if settings.annotations and settings.annotations not in openers:
            raise DataError(f"annotations={settings.annotations!r}: expected {', '.join(openers)}")
        for name, opener in openers.items():
            if settings.annotations in ("", name):
                opened = opener(path, settings)
                if opened is not None:
                    return opened
        wanted = settings.annotations or "annotations of a format that is known"
        raise DataError(
            f"{path} holds no {wanted}: give a folder with annotations/*.json (COCO), with images/ and annotations/*.png"
            " (ADE20K), or with images/ and depth/"
        )
    if path.exists():
        raise DataError(f"{path} is no folder, nor a list *.txt of pictures and depth maps")
    if path.is_absolute() or source.startswith((".", "~")):
        raise DataError(
            f"there is no folder {path}: {on_disk(path, '; ')}give one in COCO format, {' or '.join(DEMOS)}, or a TFDS name"
        )
    return records.open_tfds(source, settings)
