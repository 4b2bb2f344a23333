"""TFDS data sets of scenes, recognised by their features: boxes, panoptic maps, class and instance maps, or depth."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.errors import DataError
from data.images.pictures import opened, upright_size
from data.scenes.depth import checked_depth
from data.scenes.items import Annotation, Records
from data.scenes.maps import read_map, segments_of
from data.scenes.opening import DEMOS, Opened, ReadingSettings
from data.tfds import shard_states, tfds_builder, tfds_split

THINGS_OF_COCO, CLASSES_OF_COCO = 80, 133
"""The first so many of COCO's panoptic classes have instances."""

CLASSES_OF_SCENE_PARSE = 150

Annotate = Callable[[Mapping[str, Any], str], Annotation]


def open_tfds(name: str, settings: ReadingSettings) -> Opened:
    """Opens a TFDS data set.

    Raises:
        DataError: there is none of this name, or none of its features is known.
    """
    import tensorflow_datasets as tfds

    builder = tfds_builder(name, ("image",), "a folder", DEMOS[0], "choose a data set of pictures")
    features = builder.info.features
    stuff: tuple[int, ...] = ()
    if "panoptic_objects" in features:
        classes = _names(features["panoptic_objects"]["label"])
        annotate: Annotate = _panoptic
        stuff = tuple(range(THINGS_OF_COCO, len(classes))) if len(classes) == CLASSES_OF_COCO else ()
    elif "objects" in features:
        classes = _names(features["objects"]["label"])
        annotate = functools.partial(_boxes, skip=settings.skip)
    elif "depth" in features:
        classes, annotate = (), functools.partial(_depth, skip=settings.skip)
    elif "annotation" in features:
        classes = tuple(f"LABEL_{label}" for label in range(CLASSES_OF_SCENE_PARSE))
        annotate = _classes if settings.annotations == "semantic" else _instances
        stuff = tuple(range(len(classes))) if settings.annotations == "semantic" else ()
    else:
        raise DataError(
            f"the TFDS data set {name!r} has no feature `objects`, `panoptic_objects`, `annotation` or `depth`, but"
            f" {', '.join(features)}"
        )
    images = [feature for feature, kind in features.items() if isinstance(kind, tfds.features.Image)]
    decoders = {feature: tfds.decode.SkipDecoding() for feature in images}
    about, full_name = builder.info.splits, builder.info.full_name
    splits = {
        split: Records(
            tfds_split(builder, split, decoders),
            annotate,
            f"{full_name}, {split}",
            f"{shard_states(builder, split)}",
            about[split].num_bytes,
            masked=annotate in (_panoptic, _instances, _classes),
            measured="depth" in features,
            version=repr((full_name, about[split].shard_lengths, about[split].num_bytes)),
        )
        for split in about
    }
    return Opened(classes, splits, stuff=stuff)


def _names(feature: Any) -> tuple[str, ...]:
    """The names of the classes, or their numbers if they have no names."""
    return tuple(feature.names or (f"LABEL_{label}" for label in range(feature.num_classes)))


def _boxes(record: Mapping[str, Any], name: str, skip: bool) -> Annotation:
    """Boxes, which are (top, left, bottom, right) in fractions of the picture."""
    with opened(record["image"], name) as image:
        height, width = size = upright_size(image)
    objects = record["objects"]
    boxes = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]] * [width, height, width, height]
    labels = np.asarray(objects["label"], np.int32).reshape(-1)
    crowd = np.asarray(objects.get("is_crowd", np.zeros(len(labels))), bool).reshape(-1)
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    good &= (boxes >= -1).all(axis=1) & (boxes <= np.array([width, height, width, height]) + 1).all(axis=1)
    if not good.all() and not skip:
        box = np.asarray(objects["bbox"])[np.flatnonzero(~good)[0]].tolist()
        raise DataError(
            f"{name} has the box {box}, which holds no pixel of it; --data.broken skip leaves such boxes out"
        )
    boxes = np.clip(boxes, 0, [width, height, width, height])
    areas = np.asarray(objects.get("area", np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)), np.float64).reshape(-1)
    return Annotation(size, labels[good], boxes[good], crowd[good], areas[good])


def _panoptic(record: Mapping[str, Any], name: str) -> Annotation:
    objects = record["panoptic_objects"]
    ids, labels = (np.asarray(objects[key], np.int64).reshape(-1) for key in ("id", "label"))
    crowd = np.asarray(objects["is_crowd"], bool).reshape(-1)
    return segments_of(read_map(record["panoptic_image"], name), ids, labels, crowd)


def _instances(record: Mapping[str, Any], name: str) -> Annotation:
    """Instances of a map: red is the class, from 1 on, green the number of the instance in its class."""
    numbers = read_map(record["annotation"], name) % 65_536
    ids = np.unique(numbers)
    ids = ids[ids % 256 > 0]
    return segments_of(numbers, ids, ids % 256 - 1)


def _classes(record: Mapping[str, Any], name: str) -> Annotation:
    """The classes of such a map, all instances of a class as one object."""
    numbers = read_map(record["annotation"], name) % 256
    ids = np.unique(numbers[numbers > 0])
    return segments_of(numbers, ids, ids - 1)


def _depth(record: Mapping[str, Any], name: str, skip: bool) -> Annotation:
    depth = np.asarray(record["depth"])
    return Annotation(depth.shape[:2], depth=lambda: checked_depth(depth.reshape(depth.shape[:2]), name, skip))
