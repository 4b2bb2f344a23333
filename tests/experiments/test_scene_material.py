"""Stamps on photographs and nuclei as folders in COCO's format, and read again."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data.scenes.items import read_scene
from data.scenes.source import PreparedScenes, Scenes
from experiments.material import scenes
from experiments.material.pictures import STAMPS


def prepared(folder: Path) -> PreparedScenes:
    return Scenes(source=str(folder), cache=str(folder / "cache")).prepare(0, folder, lambda text: None)


def test_stamps_are_seen_where_their_masks_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scenes, "COUNTS", {"train": 12, "validation": 3})
    for category, color in (("animals", (255, 0, 255, 255)), ("plants", (0, 255, 0, 255))):
        (tmp_path / STAMPS / category / "some").mkdir(parents=True)
        for number in range(10):
            stamp = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
            ImageDraw.Draw(stamp).ellipse((5, 5, 50 - number, 35), fill=color)
            stamp.save(tmp_path / STAMPS / category / "some" / f"{number}.png")
        stamp.save(tmp_path / STAMPS / category / "some" / "0_mirror.png")
    for side in scenes.SIDES:
        names, drawn = scenes.composites(tmp_path, side)
        assert scenes.write(tmp_path / "coco", side, names, drawn) == scenes.COUNTS[side]
    data = prepared(tmp_path / "coco")
    assert data.vocabulary.labels == ("animals", "plants") and data.counts == (12, 3)
    seen = 0
    for part in data.scenes:
        for index in range(len(part)):
            scene = read_scene(part, index, masks=True)
            assert len(scene.labels) >= 1 and (scene.masks.sum(axis=0) <= 1).all()
            for label, mask, area in zip(scene.labels, scene.masks > 0, scene.areas, strict=True):
                assert mask.sum() == area
                inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
                color = np.median(scene.picture[1:-1, 1:-1][inner], axis=0)
                assert np.abs(color - [(255, 0, 255), (0, 255, 0)][label]).max() < 40
                seen += 1
    assert seen > 20


def test_nuclei_are_those_of_the_map(tmp_path: Path) -> None:
    numbers, rows, columns = np.zeros((512, 512), np.uint16), *np.mgrid[:512, :512]
    for number, (y, x) in enumerate([(40, 40), (64, 128), (300, 200), (100, 450), (400, 500)], start=1):
        numbers[(rows - y) ** 2 + (columns - x) ** 2 < 15**2] = number
    Image.fromarray(numbers).save(tmp_path / "mask2d.tif")
    Image.fromarray((10 + 200 * (numbers > 0)).astype(np.uint16)).save(tmp_path / "img2d.tif")
    for side in scenes.SIDES:
        scenes.write(tmp_path / "coco", side, *scenes.nuclei(tmp_path, side))
    data = prepared(tmp_path / "coco")
    assert data.vocabulary.labels == ("nucleus",) and data.counts == (9 * 13, 4)
    held_out = [read_scene(data.scenes[1], index, masks=True) for index in range(4)]
    assert sum(len(scene.labels) for scene in held_out) == 2
    for scene in held_out:
        shown = scene.masks.any(axis=0) if len(scene.masks) else np.zeros((128, 128), bool)
        assert ((scene.picture[..., 0] > 100) == shown).all()
