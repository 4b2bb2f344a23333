"""Folders of scenes, written small: in COCO's formats, of classes, of depth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = [(40, 60), (50, 30), (40, 60), (48, 48), (32, 64), (40, 60)]
"""(height, width) of the pictures."""

CATEGORIES = [{"id": 90, "name": "kite"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
"""Ids with gaps, in no order."""


def silent(message: str) -> None:
    pass


def picture(size: tuple[int, int], number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8))


def polygon(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(number: int, image: int, category: int, box: tuple[float, float, float, float], **more: Any) -> dict:
    """An annotation of a box (left, top, width, height)."""
    left, top, width, height = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "segmentation": polygon(left, top, left + width, top + height),
        **more,
    }


GOOD = [
    instance(1, 10, 90, (5, 10, 20, 15), area=300, iscrowd=0),
    instance(2, 10, 3, (30, 5, 10.5, 20)),
    instance(3, 11, 7, (0, 0, 30, 50), iscrowd=0),
    instance(4, 13, 7, (10, 10, 20, 20)),
    {
        **instance(5, 13, 3, (0, 0, 48, 10), iscrowd=1),
        "segmentation": {"size": [48, 48], "counts": [0, 10, 38, 10, 2246]},
    },
    instance(6, 14, 3, (1, 1, 3, 3)),
    instance(7, 15, 90, (5, 5, 50, 30)),
]
"""Of the pictures 10 to 15; 12 has none."""


def write_coco(folder: Path, annotations: list[dict] | None = None, split: str = "train2017") -> Path:
    """Pictures with instances."""
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images = []
    for number, size in enumerate(SIZES):
        picture(size, number).save(folder / split / f"{number}.png")
        images.append({"id": 10 + number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
    told = {"images": images, "annotations": GOOD if annotations is None else annotations, "categories": CATEGORIES}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(told))
    return folder


def write_panoptic(folder: Path) -> Path:
    """Pictures with segments, whose ids are above 65,536."""
    maps = folder / "annotations" / "panoptic_val2017"
    maps.mkdir(parents=True)
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES[:3]):
        picture((height, width), number).save(folder / "val2017" / f"{number}.jpg")
        segments = np.full((height, width), 70_001)
        segments[:10, :10], segments[20:, 10:] = 0, 300
        colors = np.stack([segments % 256, segments // 256 % 256, segments // 65_536], axis=-1).astype(np.uint8)
        Image.fromarray(colors).save(maps / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        info = [
            {"id": 70_001, "category_id": 200, "iscrowd": 0, "bbox": [0, 0, width, height], "area": 1},
            {"id": 300, "category_id": 3, "iscrowd": int(number == 2), "bbox": [10, 20, 1, 1], "area": 1},
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": info})
    categories = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 200, "name": "sky", "isthing": 0}]
    told = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "panoptic_val2017.json").write_text(json.dumps(told))
    return folder


def write_classes(folder: Path, split: str = "training", numbers: tuple[int, ...] = (0, 1, 3, 255)) -> Path:
    """Pictures with PNGs of classes, each number in a stripe of columns."""
    for number, (height, width) in enumerate(SIZES[:4]):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        picture((height, width), number).save(folder / "images" / split / f"{number}.jpg")
        classes = np.array(numbers, np.uint8)[np.arange(width) * len(numbers) // width]
        Image.fromarray(np.tile(classes, (height, 1))).save(folder / "annotations" / split / f"{number}.png")
    (folder / "classes.txt").write_text("wall\nfloor\nsky\n")
    return folder


def write_depth(folder: Path) -> Path:
    """Pictures with PNGs of 16 bits, whose numbers grow along the rows, with a hole."""
    for split, count in (("train", 3), ("val", 2)):
        for number, (height, width) in enumerate(SIZES[:count]):
            for kind in ("images", "depth"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            picture((height, width), number).save(folder / split / "images" / f"{number}.png")
            depth = np.tile(np.arange(height)[:, None] * 250 + 1_000, (1, width)).astype(np.uint16)
            depth[:5, :5] = 0
            Image.fromarray(depth).save(folder / split / "depth" / f"{number}.png")
    return folder
