"""TFDS data sets of scenes, prepared with the features that TFDS's own have, read without TensorFlow."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds
from PIL import Image

from data import DataError
from data.scenes.items import read_scene
from data.scenes.source import PreparedScenes, Scenes

SIZE = (40, 60)


def png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def picture(number: int) -> io.BytesIO:
    return png(np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8))


def write(root: Path, dataset: str, config: str, features: dict[str, Any], records: Callable[[], list[dict]]) -> None:
    """A data set as `tfds build` leaves it."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version("1.1.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self) -> tfds.core.DatasetInfo:
            image = {"image": tfds.features.Image(encoding_format="png")}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({**image, **features}))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(begin) for split, begin in (("train", 0), ("validation", 2))}

        def _generate_examples(self, begin: int) -> Iterator[tuple[int, dict]]:
            for number, record in enumerate(records()[begin : begin + 2]):
                yield number, {"image": picture(begin + number), **record}

    Builder(data_dir=root, file_format="array_record").download_and_prepare()


def read(source: str, root: Path, monkeypatch: pytest.MonkeyPatch, **settings) -> tuple[PreparedScenes, list]:
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(root))
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    data = Scenes(source=source, shortest=40, longest=60, cache=str(root / "cache"), **settings).prepare(
        0, root, lambda text: None
    )
    return data, [read_scene(part, index, True, True) for part in data.scenes for index in range(len(part))]


def box(number: int, **changes) -> dict:
    values = {"id": number, "area": 9, "bbox": tfds.features.BBox(0.1, 0.2, 0.5, 0.6), "label": 3, "is_crowd": False}
    return {**values, **changes}


def test_boxes_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = tfds.features.Sequence(
        {
            "id": np.int64,
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(num_classes=80),
            "is_crowd": np.bool_,
        }
    )
    records = [{"objects": [box(1, is_crowd=True), box(2, label=7)][:number]} for number in (0, 1, 2, 2)]
    write(tmp_path, "coco", "2017", {"objects": objects}, lambda: records)
    data, scenes = read("coco/2017", tmp_path, monkeypatch)
    assert data.counts == (2, 2) and len(data.vocabulary.labels) == 80 and data.given
    assert sorted(len(scene.labels) for scene in scenes) == [0, 1, 2, 2]
    assert np.allclose(scenes[2].boxes, [[12, 4, 36, 20]] * 2) and scenes[2].labels.tolist() == [3, 7]
    assert scenes[2].crowd.tolist() == [True, False] and scenes[2].masks is None

    flat = [{"objects": [box(1, bbox=tfds.features.BBox(0.1, 0.6, 0.5, 0.6))]} for _ in range(4)]
    write(tmp_path / "bad", "coco", "2017", {"objects": objects}, lambda: flat)
    with pytest.raises(DataError, match=r"has the box .*, which holds no pixel of it"):
        read("coco/2017", tmp_path / "bad", monkeypatch)
    _, scenes = read("coco/2017", tmp_path / "bad", monkeypatch, broken="skip")
    assert [len(scene.labels) for scene in scenes] == [0] * 4


def test_panoptic_segments_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {
        "panoptic_image": tfds.features.Image(encoding_format="png"),
        "panoptic_objects": tfds.features.Sequence(
            {
                "id": np.int64,
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(num_classes=133),
                "is_crowd": np.bool_,
            }
        ),
    }
    segments = np.zeros((*SIZE, 3), np.uint8)
    segments[:10], segments[20:] = (1, 2, 3), (5, 0, 0)
    some = [
        {"id": 197_121, "bbox": tfds.features.BBox(0.0, 0.0, 0.25, 1.0), "label": 100, "is_crowd": False},
        {"id": 5, "bbox": tfds.features.BBox(0.5, 0.0, 1.0, 1.0), "label": 0, "is_crowd": True},
    ]
    records = lambda: [{"panoptic_image": png(segments), "panoptic_objects": some} for _ in range(4)]  # noqa: E731
    write(tmp_path, "coco", "2017_panoptic", features, records)
    data, scenes = read("coco/2017_panoptic", tmp_path, monkeypatch)
    assert data.stuff == tuple(range(80, 133))
    assert scenes[0].labels.tolist() == [100, 0] and scenes[0].crowd.tolist() == [False, True]
    assert scenes[0].masks.sum(axis=(1, 2)).tolist() == [600, 1_200]
    assert scenes[0].boxes.tolist() == [[0, 0, 60, 10], [0, 20, 60, 40]]


def test_depth_of_nyu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth = np.full((4, *SIZE), 2.5, np.float16)
    depth[1, 0, 0] = 0
    features = {"depth": tfds.features.Tensor(shape=SIZE, dtype=np.float16)}
    write(tmp_path, "coco", "2017", features, lambda: [{"depth": one} for one in depth])
    data, scenes = read("coco/2017", tmp_path, monkeypatch)
    assert data.vocabulary.labels == () and scenes[1].depth.dtype == np.float32
    assert sum((scene.depth == 0).sum() for scene in scenes) == 1

    depth[3, 5, 5:8] = np.inf, -1, np.nan
    write(tmp_path / "bad", "coco", "2017", features, lambda: [{"depth": one} for one in depth])
    with pytest.raises(DataError, match="negative or not finite at 3 pixels"):
        read("coco/2017", tmp_path / "bad", monkeypatch)
    _, scenes = read("coco/2017", tmp_path / "bad", monkeypatch, broken="skip")
    assert sum((scene.depth == 0).sum() for scene in scenes) == 4


def test_classes_and_instances_of_scene_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.zeros((*SIZE, 3), np.uint8)
    numbers[:10, :, 0], numbers[30:, :, 0] = 4, 4
    numbers[30:, :, 1] = 1
    features = {"annotation": tfds.features.Image(shape=(None, None, 3), encoding_format="png")}
    write(tmp_path, "coco", "2017", features, lambda: [{"annotation": png(numbers)} for _ in range(4)])
    data, scenes = read("coco/2017", tmp_path, monkeypatch)
    assert len(data.vocabulary.labels) == 150
    assert scenes[0].labels.tolist() == [3, 3] and scenes[0].masks.sum(axis=(1, 2)).tolist() == [600, 600]
    data, scenes = read("coco/2017", tmp_path, monkeypatch, annotations="semantic")
    assert scenes[0].labels.tolist() == [3] and scenes[0].masks.sum() == 1_200 and len(data.stuff) == 150


def test_what_is_no_data_set_of_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "coco", "2017", {"text": tfds.features.Text()}, lambda: [{"text": "a"}] * 4)
    with pytest.raises(DataError, match=r"has no feature `objects`, .*but .*text"):
        read("coco/2017", tmp_path, monkeypatch)
    with pytest.raises(DataError, match="nor a TFDS data set"):
        read("digit_scene", tmp_path, monkeypatch)
