"""Folders in COCO's, ADE20K's and depth's formats, TFDS data sets, and what is wrong with them in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.forms import SceneForm
from data.ragged import IGNORED
from data.scenes.coco_masks import mask_error, unpacked_runs
from data.scenes.items import read_scene
from data.scenes.source import PreparedScenes, Scenes
from tests.data.scenes.folders import (
    GOOD,
    SIZES,
    instance,
    silent,
    write_classes,
    write_coco,
    write_depth,
    write_panoptic,
)

FORM = SceneForm((64, 64), objects=4, reads=("mask_labels",))


def prepared(source: Path | str, **settings) -> PreparedScenes:
    where = {"cache": str(Path(source) / "cache")} if Path(source).is_dir() else {}
    known = {"held_out": 0.3, "shortest": 30, "longest": 64, **where, **settings}
    return Scenes(source=str(source), **known).prepare(0, Path(), silent)


def everything(data: PreparedScenes) -> list:
    """All scenes with their masks and depth."""
    return [read_scene(part, index, True, True) for part in data.scenes for index in range(len(part))]


def test_instances_of_coco(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    data = prepared(write_coco(tmp_path / "coco"))
    assert data.vocabulary.labels == ("cat", "dog", "kite") and data.category_ids == (3, 7, 90) and not data.stuff
    assert [data.category_ids[label] for label in (2, 0)] == [90, 3]
    official = COCO(str(tmp_path / "coco" / "annotations" / "instances_train2017.json"))
    scenes = everything(data)
    assert [len(scene.labels) for scene in scenes] == [2, 1, 0, 2, 1, 1]
    assert scenes[0].labels.tolist() == [2, 0] and scenes[0].boxes.tolist() == [[5, 10, 25, 25], [30, 5, 40.5, 25]]
    assert scenes[3].crowd.tolist() == [False, True]
    for number, scene in enumerate(scenes):
        assert scene.size == SIZES[number]
        theirs = [official.annToMask(one) for one in official.imgToAnns[10 + number]]
        assert (scene.masks == np.array(theirs).reshape(-1, *SIZES[number])).all()
    assert scenes[0].masks[0].sum() == 300


def test_labels_may_be_the_ids_themselves(tmp_path: Path) -> None:
    data = prepared(write_coco(tmp_path / "coco"), raw_ids=True)
    names = data.vocabulary.labels
    assert len(names) == 91 and (names[3], names[7], names[90]) == ("cat", "dog", "kite") and names.count("N/A") == 88
    assert everything(data)[0].labels.tolist() == [90, 3] and data.category_ids == tuple(range(91))


def test_crowds_are_not_trained_on_and_pictures_without_objects_are(tmp_path: Path) -> None:
    data = prepared(write_coco(tmp_path / "coco"))
    examples = data.examples(np.arange(6), FORM, 0).in_order()
    batch = examples.batch(np.arange(6))
    labels = [row[row != IGNORED].tolist() for row in batch["class_labels"]]
    assert labels == [[2, 0], [1], [], [1], [0], [2]]
    assert examples.scene(3).crowd.any()
    assert not batch["mask_labels"][2].any() and batch["mask_labels"][3].sum() > 0
    training = data.training(FORM, 0).batch(np.arange(20))
    assert training["class_labels"].shape == (20, 4)


BAD = {
    "has a box without any pixel": instance(50, 12, 3, (5, 5, 0, 9)),
    "has a box without any pixel, \\[20": instance(51, 12, 3, (20, 5, -8, 9)),
    "lies outside of its picture of 40 × 60": instance(52, 12, 3, (50, 5, 15, 9)),
    "is of category 4, which has no name": instance(53, 12, 4, (5, 5, 9, 9)),
    "has a mask of size \\[10, 10\\], and its picture has 40 × 60": {
        **instance(54, 12, 3, (5, 5, 9, 9)),
        "segmentation": {"size": [10, 10], "counts": [100]},
    },
    "has a polygon of less than three points": {**instance(55, 12, 3, (5, 5, 9, 9)), "segmentation": [[1, 1, 2, 2]]},
    "has the bbox 'here'": {**instance(56, 12, 3, (5, 5, 9, 9)), "bbox": "here"},
    "is of no picture that is there": instance(57, 99, 3, (5, 5, 9, 9)),
    "has a mask of 100 pixels, and its picture has 40 × 60": {
        **instance(59, 12, 3, (5, 5, 9, 9)),
        "segmentation": {"size": [40, 60], "counts": [0, 100]},
    },
    "has a mask whose counts are no lengths of runs": {
        **instance(59, 12, 3, (5, 5, 9, 9)),
        "segmentation": {"size": [40, 60], "counts": ["five", 2395]},
    },
    "has a mask of 0 pixels, and its picture has 40 × 60": {
        **instance(59, 12, 3, (5, 5, 9, 9)),
        "segmentation": {"size": [40, 60], "counts": ""},
    },
    "has a polygon with a point that is no pair of numbers": {
        **instance(59, 12, 3, (5, 5, 9, 9)),
        "segmentation": [[1, 1, 5, float("nan"), 5, 5]],
    },
    "is of category \\[3\\], which has no name": {**instance(59, 12, 3, (5, 5, 9, 9)), "category_id": [3]},
    "box without any pixel, \\[nan": instance(58, 12, 3, (float("nan"), 5, 9, 9)),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_broken_annotation_is_refused_or_left_out(wrong: str, tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco", [*GOOD, BAD[wrong]])
    with pytest.raises(DataError, match=f"annotation 5. .*{wrong}.*skip leaves"):
        prepared(folder)
    said: list[str] = []
    settings = Scenes(source=str(folder), broken="skip", cache=str(tmp_path / "cache"), held_out=0.3)
    data = settings.prepare(0, Path(), said.append)
    assert sum(len(scene.labels) for scene in everything(data)) == len(GOOD)
    assert any("1 annotations" in line and "left out" in line for line in said)
    assert len(settings.survey(lambda done, count: None).broken) == 1


def test_runs_in_a_text_are_those_of_pycocotools() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 1.0):
        pixels = np.asfortranarray(rng.random((37, 300)) < density, np.uint8)
        pixels[:, 100:220] = 1
        runs = unpacked_runs(mask.encode(pixels)["counts"])
        values = np.arange(len(runs)) % 2
        np.testing.assert_array_equal(np.repeat(values, runs), pixels.ravel(order="F"))
        assert not mask_error(mask.encode(pixels), pixels.shape)


ENTRIES = {
    "entry 0 of images has the file_name None, where str is expected": ("images", "file_name", None),
    "entry 0 of images has the id None, where int or str": ("images", "id", None),
    "entry 0 of images has the height 'tall', where int is expected": ("images", "height", "tall"),
    "entry 0 of images has the width 0, where 1 or more": ("images", "width", 0),
    "entry 0 of categories has the name None, where str is expected": ("categories", "name", None),
    "entry 0 of categories has the id True, where int is expected": ("categories", "id", True),
}


@pytest.mark.parametrize("wrong", ENTRIES)
def test_an_entry_without_what_it_must_have(wrong: str, tmp_path: Path) -> None:
    folder, (entries, field, value) = write_coco(tmp_path / "coco"), ENTRIES[wrong]
    file = folder / "annotations" / "instances_train2017.json"
    told = json.loads(file.read_text())
    told[entries][0][field] = value
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"instances_train2017.json: {wrong}"):
        prepared(folder)
    told[entries] = "none"
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"{entries} is a str, where a list is expected"):
        prepared(folder)
    told[entries] = ["none"]
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"entry 0 of {entries} is 'none', where names and values"):
        prepared(folder)


SEGMENTS = {
    "segments_info is a str, where a list": "none",
    "segments_info is a NoneType, where a list": None,
    "entry 0 of segments_info has the id None, where int": [{"category_id": 3}],
    "entry 0 of segments_info has the category_id 'cat', where int": [{"id": 300, "category_id": "cat"}],
}


@pytest.mark.parametrize("wrong", SEGMENTS)
def test_segments_without_what_they_must_have(wrong: str, tmp_path: Path) -> None:
    folder = write_panoptic(tmp_path / "panoptic")
    (file,) = (folder / "annotations").glob("*.json")
    told = json.loads(file.read_text())
    told["annotations"][1]["segments_info"] = SEGMENTS[wrong]
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"of 1.jpg, {wrong}"):
        prepared(folder)


def test_masks_that_are_asked_for_must_be_there(tmp_path: Path) -> None:
    without = {**instance(50, 12, 3, (5, 5, 9, 9)), "segmentation": []}
    data = prepared(write_coco(tmp_path / "coco", [*GOOD, without]))
    boxes = SceneForm((96, 96), objects=4)
    assert len(data.training(boxes, 0).batch(np.arange(3))["boxes"]) == 3
    with pytest.raises(DataError, match="masks are asked for, and not all objects have one"):
        data.training(FORM, 0)


def test_boxes_that_are_outside_by_rounding_are_cut_off(tmp_path: Path) -> None:
    data = prepared(write_coco(tmp_path / "coco", [instance(1, 12, 3, (-0.4, 10, 60.9, 30.3))]))
    assert everything(data)[2].boxes.tolist() == [[0, 10, 60, 40]]


def test_a_picture_of_another_size_than_its_annotation(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco")
    Image.new("RGB", (20, 20)).save(folder / "train2017" / "4.png")
    with pytest.raises(DataError, match=r"4.png has 20 × 20 pixels, and its annotation is of a picture of 32 × 64"):
        prepared(folder)
    assert sum(prepared(folder, broken="skip").counts) == 5


def test_a_turned_picture_is_annotated_as_it_stands_or_as_it_is_stored(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco")
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    Image.fromarray(pixels).save(folder / "train2017" / "0.png", exif=exif)  # annotated as stored
    Image.fromarray(np.rot90(np.zeros((50, 30, 3), np.uint8))).save(folder / "train2017" / "1.png", exif=exif)
    scenes = everything(prepared(folder))
    assert scenes[0].size == (40, 60) and (scenes[0].picture == pixels).all() and scenes[1].size == (50, 30)


def test_too_many_objects_are_refused_beforehand(tmp_path: Path) -> None:
    data = prepared(write_coco(tmp_path / "coco"))
    with pytest.raises(DataError, match=r"scene 0 holds 2 objects, and form\.objects is 1"):
        data.examples(np.arange(6), SceneForm((64, 64), objects=1), 0)
    data.examples(np.array([1, 3]), SceneForm((64, 64), objects=1), 0)  # a crowd does not count
    data = prepared(write_panoptic(tmp_path / "panoptic"), held_out_split="validation")
    with pytest.raises(DataError, match="scene 0 holds 2 objects"):
        data.held_out(SceneForm((64, 64), objects=1))


def test_a_broken_picture_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco")
    whole = (folder / "train2017" / "2.png").read_bytes()
    (folder / "train2017" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"2\.png is a broken picture"):
        prepared(folder)
    assert sum(prepared(folder, broken="skip").counts) == 5
    (folder / "train2017" / "2.png").unlink()
    with pytest.raises(DataError, match=r"there is no .*2\.png"):
        prepared(folder)


def test_segments_of_panoptic_maps(tmp_path: Path) -> None:
    data = prepared(write_panoptic(tmp_path / "coco"), held_out_split="validation")
    assert data.vocabulary.labels == ("cat", "sky") and data.stuff == (1,) and data.category_ids == (3, 200)
    scenes = everything(data)
    for scene, (height, width) in zip(scenes, SIZES, strict=False):
        assert scene.labels.tolist() == [1, 0] and scene.boxes[1].tolist() == [10, 20, width, height]
        assert scene.masks[1].sum() == (height - 20) * (width - 10)
        assert (scene.masks.sum(axis=0) == 1).sum() == height * width - 100
    assert scenes[2].crowd.tolist() == [False, True]
    assert len(data.held_out(FORM)) == 3


@pytest.mark.parametrize("reduce_labels", [False, True])
def test_maps_of_classes(tmp_path: Path, reduce_labels: bool) -> None:
    folder = write_classes(tmp_path / "ade", numbers=(0, 1, 3, 255) if reduce_labels else (0, 1, 2, 255))
    data = prepared(folder, reduce_labels=reduce_labels)
    for scene in everything(data):
        assert scene.labels.tolist() == ([0, 2] if reduce_labels else [0, 1, 2])
        assert 0 < (scene.masks.sum(axis=0) == 0).mean() < 0.6 and data.stuff == (0, 1, 2)
    with pytest.raises(DataError, match="has the class 3, and there are 3 classes, from 0 on"):
        prepared(write_classes(tmp_path / "other", numbers=(0, 3)))


def test_maps_of_classes_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "ade", numbers=(0, 1))
    Image.new("L", (9, 9)).save(folder / "annotations" / "training" / "2.png")
    with pytest.raises(DataError, match=r"2.jpg has 40 × 60 pixels, and its map has 9 × 9"):
        prepared(folder)
    assert sum(prepared(folder, broken="skip").counts) == 3
    (folder / "annotations" / "training" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.jpg has no 2\.png in"):
        prepared(folder)


def test_depth_in_pngs_and_lists(tmp_path: Path) -> None:
    folder = write_depth(tmp_path / "nyu")
    form = SceneForm((64, 64), objects=0, reads=("labels",))
    data = prepared(folder, depth_scale=1000.0)
    batch = data.held_out(form)[0]
    scene = everything(data)[0]
    assert scene.depth[20, 20] == np.float32(6.0) and scene.depth[2, 2] == 0 and batch["labels"].max() > 5
    rows = [f"/train/images/{n}.png train/depth/{n}.png 518.8" for n in range(3)]
    (folder / "nyu_train_files.txt").write_text("\n".join([*rows, "train/images/0.png None 518.8"]))
    (folder / "nyu_test_files.txt").write_text("val/images/0.png val/depth/0.png\n")
    listed = prepared(folder / "nyu_train_files.txt", depth_scale=256.0, cache=str(tmp_path / "cache"))
    assert listed.counts == (3, 1) and everything(listed)[0].depth[20, 20] == np.float32(6_000 / 256)
    (folder / "nyu_test_files.txt").write_text("val/images/0.png\n")
    with pytest.raises(DataError, match="line 1: expected the paths of a picture and of its depth"):
        prepared(folder / "nyu_train_files.txt", cache=str(tmp_path / "cache"))


def test_json_that_is_no_annotations(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco")
    file = folder / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match=r"holds no annotations of a format that is known"):
        prepared(folder)
    file.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        prepared(folder)
    with pytest.raises(DataError, match="holds no depth"):
        prepared(write_classes(tmp_path / "ade"), annotations="depth")
