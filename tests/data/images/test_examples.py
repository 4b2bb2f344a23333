"""Examples of pictures are functions of seed and place."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.forms import ImageForm
from data.images.host_augmentation import random_box
from data.images.source import Images
from data.loader import load
from tests.data.images.samples import ALL, MIXED, SIZE, noise, recognised, silent, write_folder


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_hosts_change_nothing(workers: int, folder: Path) -> None:
    examples = Images(source=str(folder), **ALL).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    settings = dict(batch_size=12, first_step=1, last_step=3, micro_batches=2)
    expected = [examples.batch(np.arange(step * 12, step * 12 + 12)) for step in (1, 2)]
    shares = [list(load(examples, shard=(host, 2), workers=workers, **settings)) for host in range(2)]
    for step, batch in enumerate(expected):
        for name, array in batch.items():
            found = np.concatenate([shares[host][step][name] for host in range(2)], axis=1)  # [micro, host rows]
            assert np.array_equal(found.reshape(array.shape), array)


def test_each_epoch_visits_every_picture_once_in_an_order_of_its_own(folder: Path) -> None:
    examples = Images(source=str(folder), held_out=0.25).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    epochs = [recognised(examples, np.arange(len(examples)) + len(examples) * epoch) for epoch in range(3)]
    assert all(sorted(epoch) == examples.places.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeats_are_neighbours_and_never_mixed_with_themselves(repeats: int, folder: Path) -> None:
    examples = (
        Images(source=str(folder), held_out=0.25, repeats=repeats)
        .prepare(0, Path(), silent)
        .training(ImageForm(SIZE), 0)
    )
    examples = dataclasses.replace(examples, places=np.arange(18))
    shown = np.array(recognised(examples, np.arange(18 * repeats)))
    assert np.bincount(shown)[examples.places].tolist() == [repeats] * 18
    for picture in examples.places:
        where = np.flatnonzero(shown == picture)
        assert where[-1] - where[0] == 2 * (repeats - 1)
    assert (shown != shown[np.arange(len(shown)) ^ 1]).all()
    if repeats > 1:
        pixels = examples.batch(np.array([0, 2]))["pixel_values"]
        assert not np.array_equal(*pixels)  # altered anew


def test_the_other_picture_is_that_of_the_neighbour(folder: Path) -> None:
    examples = Images(source=str(folder), **ALL).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    batch = examples.batch(np.arange(24))
    for name, other in (("pixel_values", "other_pixel_values"), ("labels", "other_labels")):
        assert np.array_equal(batch[other], batch[name][np.arange(24) ^ 1])
    assert np.array_equal(examples.batch(np.array([5]))["other_pixel_values"][0], batch["pixel_values"][4])


def test_a_picture_needed_twice_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import examples as images

    examples = Images(source=str(folder), augment=MIXED).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    count, opened = [], images.opened
    monkeypatch.setattr(images, "opened", lambda *source: count.append(source) or opened(*source))
    examples.batch(np.arange(10))
    assert len(count) == 10


def test_a_random_part_is_that_part_resized(tmp_path: Path) -> None:
    """By the long way: the part cut out and resized, to where Pillow's interpolation at its edges sees more of it."""
    write_folder(tmp_path, {"a": 3, "b": 3}, "png")
    settings = Images(source=str(tmp_path), scale=(0.3, 1.0))
    examples = settings.prepare(0, Path(), silent).training(ImageForm(SIZE), 3)
    batch = examples.batch(np.arange(5))
    for index in range(5):
        picture = examples.pictures[int(examples.places[examples.items(np.array([index]))[0]])]
        key = np.array([np.random.SeedSequence(3).generate_state(1, np.uint64)[0], index], np.uint64)
        box = random_box(np.random.Generator(np.random.Philox(key=key)), (40, 60), settings.scale, settings.ratio)
        expected = np.asarray(Image.open(picture.source).crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        inner = np.abs(batch["pixel_values"][index].astype(int) - expected)[2:-2, 2:-2]
        assert inner.max() <= 3


def test_a_jpeg_decoded_small_is_nearly_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import examples as images

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        noise(ord(name), 640, 960).save(tmp_path / name / "0.jpg", quality=95)
        noise(9 + ord(name), 640, 960).save(tmp_path / name / "1.jpg", quality=95)
    examples = Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent).training(ImageForm(32), 0)
    decoded, sizes = images.decoded, []
    monkeypatch.setattr(images, "decoded", lambda image: sizes.append(image.size) or decoded(image))
    fast = examples.batch(np.arange(24))["pixel_values"].astype(int)
    assert {(240, 160), (480, 320)} <= set(sizes) and len(sizes) == 24
    monkeypatch.setattr(images, "GAP", 1e9)
    slow = examples.batch(np.arange(24))["pixel_values"].astype(int)
    assert np.abs(fast - slow).max() <= 6 and np.abs(fast - slow).mean() < 0.5
