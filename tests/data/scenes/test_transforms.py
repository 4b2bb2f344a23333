"""What is done to scenes: boxes, masks and depth go through it together, and sizes are those that are published."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.scenes.processor import SceneProcessor
from data.scenes.scene import Scene, boxes_of
from data.scenes.transforms import Alteration, Crop, Flip, Plan, Resize

PROCESSOR = SceneProcessor(shortest=48, longest=80)
DETR = Alteration(
    short_sides=tuple(range(480, 801, 32)),
    longest=1333,
    part=0.5,
    part_short_sides=(400, 500, 600),
    part_sides=(384, 600),
)


def scene(seed: int = 0, size: tuple[int, int] = (50, 70), masks: bool = True) -> Scene:
    """Four ellipses; red is the column, green the row; the depth is a number for each pixel."""
    draw, (height, width) = np.random.default_rng(seed), size
    rows, columns = np.mgrid[:height, :width]
    shapes = []
    for _ in range(4):
        y, x = draw.uniform(0.2, 0.8, 2) * size
        high, wide = draw.uniform(0.1, 0.3, 2) * size
        shapes.append(((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1)
    all_masks = np.array(shapes, np.uint8)
    picture = np.stack([columns * 255 // width, rows * 255 // height, 0 * rows], axis=-1).astype(np.uint8)
    depth = (1 + rows * width + columns).astype(np.float32)
    kept = all_masks if masks else None
    return Scene(picture, np.arange(4, dtype=np.int32), boxes_of(all_masks), kept, np.zeros(4, bool), None, depth)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(25, 35), (100, 140), (33, 91), (50, 70)])
def test_resizing_is_pillows(size: tuple[int, int]) -> None:
    before = scene()
    after = Resize(size)(before, 2)
    image = Image.fromarray(before.picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert (after.picture == np.asarray(image)).all()
    for mask, old in zip(after.masks, before.masks, strict=True):
        assert (mask == np.asarray(Image.fromarray(old).resize(size[::-1], Image.Resampling.NEAREST))).all()
    depth = Image.fromarray(before.depth).resize(size[::-1], Image.Resampling.NEAREST)
    assert (after.depth == np.asarray(depth)).all()
    assert np.allclose(after.boxes / (size[::-1] * 2), before.boxes / ((70, 50) * 2))


def test_a_crop_cuts_off_and_drops() -> None:
    before = scene(1)
    crop = Crop(20, 30, (15, 25))
    after = crop(before, 2)
    there = before.masks[:, 20:35, 30:55].any(axis=(1, 2))
    assert 0 < there.sum() < 4
    assert after.labels.tolist() == np.flatnonzero(there).tolist() and len(after.crowd) == there.sum()
    assert (after.masks == before.masks[there, 20:35, 30:55]).all() and (after.boxes == boxes_of(after.masks)).all()
    assert (after.depth == before.depth[20:35, 30:55]).all() and (after.picture == before.picture[20:35, 30:55]).all()
    boxes = crop(dataclasses.replace(before, masks=None), 2)
    cut = np.clip(before.boxes - [30, 20, 30, 20], 0, [25, 15, 25, 15])
    kept = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    assert (boxes.boxes == cut[kept]).all() and boxes.labels.tolist() == np.flatnonzero(kept).tolist()


def test_a_flip_exchanges_left_and_right_and_back() -> None:
    before = scene(2)
    once, twice = Flip()(before, 2), Flip()(Flip()(before, 2), 2)
    assert (once.boxes == boxes_of(once.masks)).all() and (once.picture == before.picture[:, ::-1]).all()
    for name in ("picture", "boxes", "masks", "depth"):
        assert (vars(twice)[name] == vars(before)[name]).all(), name


@pytest.mark.parametrize(
    "alteration",
    [
        Alteration(short_sides=(32, 48), longest=80, part=0.5, part_short_sides=(40,), part_sides=(20, 40)),
        Alteration(scales=(0.3, 2.0), crop=(40, 60)),
        Alteration(crop=(32, 32)),
    ],
    ids=["parts", "scale jitter", "crops"],
)
def test_boxes_stay_with_their_masks_whatever_is_drawn(alteration: Alteration) -> None:
    for seed in range(30):
        plan = alteration.plan(generator(seed), (50, 70), PROCESSOR)
        with_masks, without = plan(scene(seed), 2), plan(scene(seed, masks=False), 2)
        assert with_masks.size == plan.size and (plan.size <= np.array(alteration.largest((50, 70), PROCESSOR))).all()
        assert set(with_masks.labels) <= set(without.labels)
        grown = max((step.size[0] / 50 for step in plan.steps if isinstance(step, Resize)), default=1)
        for label, mask in zip(with_masks.labels, with_masks.masks, strict=True):
            around = boxes_of(mask[None])[0]
            box = with_masks.boxes[with_masks.labels.tolist().index(label)]
            loose = without.boxes[without.labels.tolist().index(label)]
            assert abs(box - around).max() <= max(grown, 1)
            assert (loose[:2] <= around[:2] + grown + 1).all() and (loose[2:] >= around[2:] - grown - 1).all()


def test_the_sizes_of_detr() -> None:
    sizes = [DETR.plan(generator(seed), (427, 640), PROCESSOR).size for seed in range(300)]
    short = [min(size) for size in sizes]
    assert set(short) <= {*DETR.short_sides} | set(range(470, 801)) and max(max(size) for size in sizes) <= 1333
    whole = [size for size in sizes if abs(size[1] / size[0] - 640 / 427) < 0.01]
    assert 0.4 < len(whole) / len(sizes) < 0.62 and len({size[0] for size in whole}) == 11
    assert any(height > width for height, width in sizes)
    assert DETR.largest((427, 640), PROCESSOR) == (1333, 1333)


def test_scale_jitter_fits_the_picture_into_its_crop_times_a_factor() -> None:
    jitter, seen = Alteration(flip=0.0, scales=(0.1, 2.0), crop=(1024, 1024)), []
    for seed in range(200):
        plan = jitter.plan(generator(seed), (480, 640), PROCESSOR)
        resized = plan.steps[0].size
        seen.append(resized[1] / 1024)
        assert abs(resized[0] / resized[1] - 0.75) < 0.01 and plan.size == tuple(min(edge, 1024) for edge in resized)
    assert 0.1 <= min(seen) < 0.2 and 1.9 < max(seen) <= 2.0 and 0.95 < np.mean(seen) < 1.15


def test_colors_change_and_places_do_not() -> None:
    before = scene()
    alteration = Alteration(brightness=0.4, contrast=0.4, saturation=0.4, hue=30, gamma=0.2, color_probability=1.0)
    after = alteration.colored(generator(0), before)
    assert (after.picture != before.picture).any(axis=-1).mean() > 0.9 and after.masks is before.masks
    assert Alteration().colored(generator(0), before) is before
    for name in ("brightness", "contrast", "saturation", "hue", "gamma"):
        one = Alteration(**{name: 20 if name == "hue" else 0.4}, color_probability=1.0)
        assert (one.colored(generator(1), before).picture != before.picture).any(), name


def test_an_empty_plan_changes_nothing() -> None:
    before = scene()
    assert Plan((), before.size)(before, 2) is before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"flip": 1.5}, "a fraction must lie in"),
        ({"brightness": 1.0}, "from 0 to below 1"),
        ({"scales": (0.1, 2.0)}, "the crop that pictures are scaled to"),
        ({"scales": (0.1, 2.0), "crop": (8, 8), "short_sides": (9,)}, "resized by one of them"),
        ({"short_sides": (2_000,)}, "at most `longest`"),
        ({"part": 0.5, "part_sides": (9, 5)}, "two edges above 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Alteration(**settings)
