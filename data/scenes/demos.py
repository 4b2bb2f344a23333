"""The demos `digit_scenes` and `rendered_depth`: data sets that are generated once, from data in pip packages."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.errors import DataError
from data.files import locked
from data.scenes.items import Annotation, Records
from data.scenes.maps import read_map, segments_of
from data.scenes.opening import Opened, ReadingSettings
from data.tfds import one_split, shard_states

BACKGROUND = "photograph"
"""The class of pixels without a digit."""


def open_demo(source: str, settings: ReadingSettings) -> Opened:
    """Opens the demo of this name, and generates it if it does not exist.

    Raises:
        DataError: a package that it needs is missing, or it has no such annotations.
    """
    name, _, config = source.partition("/")
    if name == "digit_scenes":
        from data.digit_scenes.digit_scenes_dataset_builder import Builder

        kind = settings.annotations or "instances"
        if kind == "depth":
            raise DataError("digit_scenes have no depth: rendered_depth has")
        digits = tuple(map(str, range(10)))
        classes = digits if kind == "instances" else (*digits, BACKGROUND)
        stuff = {"instances": (), "panoptic": (10,), "semantic": tuple(range(11))}[kind]
        annotate = {"instances": _digits, "panoptic": _panoptic, "semantic": _semantic}[kind]
        return Opened(classes, _splits(Builder, config, settings, annotate, masked=True), stuff=stuff)
    from data.rendered_depth.rendered_depth_dataset_builder import Builder

    if settings.annotations not in ("", "depth"):
        raise DataError(f"rendered_depth has no annotations {settings.annotations!r}, the depth alone")
    return Opened((), _splits(Builder, config, settings, _depth, measured=True))


def _splits(
    builder_class: Any, config: str, settings: ReadingSettings, annotate: Callable, **known: bool
) -> Mapping[str, Records]:
    import tensorflow_datasets as tfds

    names = [one.name for one in builder_class.BUILDER_CONFIGS]
    if config not in ("", *names):
        raise DataError(f"{builder_class.name} has no configuration {config!r}, but {', '.join(names)}")

    tfds.disable_progress_bar()
    folder = settings.cache / "tfds"
    with locked(folder / builder_class.name):
        builder = builder_class(config=config or names[0], data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    version = repr((builder.info.full_name, [(s, x.shard_lengths) for s, x in sorted(builder.info.splits.items())]))
    return {
        split: Records(
            one_split(builder, split, decoders)[0],
            annotate,
            f"{builder.info.full_name}, {split}",
            f"{shard_states(builder, split)}",
            about.num_bytes,
            version=version,
            **known,
        )
        for split, about in builder.info.splits.items()
    }


def _digits(record: Mapping[str, Any], name: str) -> Annotation:
    segments, labels = read_map(record["segments"], name), record["labels"]
    return segments_of(segments, range(1, len(labels) + 1), labels)


def _panoptic(record: Mapping[str, Any], name: str) -> Annotation:
    segments, labels = read_map(record["segments"], name), record["labels"]
    return segments_of(segments, range(len(labels) + 1), [10, *labels])


def _semantic(record: Mapping[str, Any], name: str) -> Annotation:
    segments, labels = read_map(record["segments"], name), record["labels"]
    classes = np.array([10, *labels], np.int32)[segments]
    there = np.unique(classes)
    return segments_of(classes, there, there)


def _depth(record: Mapping[str, Any], name: str) -> Annotation:
    depth = np.asarray(record["depth"], np.float32)
    return Annotation(depth.shape[:2], depth=lambda: depth.reshape(depth.shape[:2]))
