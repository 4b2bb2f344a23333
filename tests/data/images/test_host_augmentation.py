"""What is done to pictures on the host: boxes, crops, turns, RandAugment."""

import numpy as np
import pytest
from PIL import Image

from data.images.host_augmentation import FILL, OPERATIONS, padded_crop, rand_augment, random_box, turned
from tests.data.images.samples import noise


def test_random_boxes_have_the_shares_and_shapes_asked_for() -> None:
    generator, size = np.random.default_rng(0), (300, 400)
    boxes = np.array([random_box(generator, size, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 400).all() and (boxes[:, 3] <= 300).all()
    share, ratio = width * height / 120_000, width / height
    assert 0.075 < share.min() < 0.1 and share.max() > 0.95
    assert 0.73 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.37
    small = share < 0.4  # all of these fit: so the shapes are as drawn, and the places uniform
    assert abs(np.log(ratio[small]).mean()) < 0.02
    assert abs(np.corrcoef(share[small], ratio[small])[0, 1]) < 0.06
    free = boxes[small, 0] / np.maximum(400 - width[small], 1)
    assert abs(free.mean() - 0.5) < 0.03 and abs(free.std() - 12**-0.5) < 0.03
    # Shares are uniform where every draw fits: below 9/16 here, where the widest is as high as the picture.
    inside = share[share < 0.5]
    assert abs(inside.mean() - (0.08 + 0.5) / 2) < 0.01


def test_a_box_that_never_fits_is_the_middle() -> None:
    for size, expected in (((10, 1000), (493, 0, 506, 10)), ((1000, 10), (0, 493, 10, 506))):
        assert random_box(np.random.default_rng(0), size, (0.9, 1.0), (3 / 4, 4 / 3)) == expected
    assert random_box(np.random.default_rng(0), (1, 1), (0.08, 1.0), (3 / 4, 4 / 3)) == (0, 0, 1, 1)


def test_padded_crops_move_the_picture_by_up_to_the_padding() -> None:
    image, generator = noise(0, 8, 8), np.random.default_rng(0)
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    windows = {padded[r : r + 8, c : c + 8].tobytes(): (r, c) for r in range(5) for c in range(5)}
    seen = [windows[np.asarray(padded_crop(generator, image, 2)).tobytes()] for _ in range(500)]
    assert len(set(seen)) == 25


def affine(*matrix: float):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, resample=3, fillcolor=FILL)


def levels(image: Image.Image, change) -> Image.Image:
    return Image.fromarray(change(np.asarray(image).astype(int)).clip(0, 255).astype(np.uint8))


class Noted(np.random.Generator):
    """A generator that draws these numbers, then its own, and keeps them all."""

    def __init__(self, *numbers: float):
        super().__init__(np.random.Philox(0))
        self.numbers, self.drawn = list(numbers), []

    def uniform(self, least: float, most: float) -> float:
        self.drawn.append(self.numbers.pop(0) if self.numbers else super().uniform(least, most))
        return self.drawn[-1]


def test_pictures_are_turned_about_their_middle() -> None:
    image = noise(5, 16, 16)
    quarter = turned(Noted(90.0, 0.0), image, 180, 0, 0)
    assert np.array_equal(np.asarray(quarter), np.asarray(image.rotate(-90)))
    same = turned(Noted(0.0, 0.0), image, 30, 30, 3)
    assert np.array_equal(np.asarray(same), np.asarray(image))
    slanted = np.asarray(turned(Noted(0.0, 45.0), image, 0, 45, 0))
    for row in range(16):  # at 45° a row is moved by its distance from the middle, and black comes into view
        moved = np.zeros((16, 3), np.uint8)
        for column in range(16):
            source = int(np.floor(column + 0.5 + (row + 0.5 - 8)))
            if 0 <= source < 16:
                moved[column] = np.asarray(image)[row, source]
        assert np.array_equal(slanted[row], moved), row


def test_the_angles_of_turned_pictures_fill_their_range() -> None:
    generator, image = Noted(), noise(0)
    for _ in range(500):
        turned(generator, image, 20, 10, 0)
    for angles, most in ((generator.drawn[::2], 20), (generator.drawn[1::2], 10)):
        assert -most <= min(angles) < -0.97 * most and 0.97 * most < max(angles) <= most
        assert abs(np.mean(angles)) < 0.1 * most


def test_the_operations_of_rand_augment() -> None:
    """Against timm's, written out for a level of 9, to the side of a negative sign where there are sides."""
    from PIL import ImageEnhance, ImageOps

    image = noise(3, 20, 30)
    expected = [
        ImageOps.autocontrast(image),
        ImageOps.equalize(image),
        levels(image, lambda x: 255 - x),
        image.rotate(-27, resample=3, fillcolor=FILL),
        levels(image, lambda x: x // 128 * 128),
        levels(image, lambda x: np.where(x < 26, x, 255 - x)),
        levels(image, lambda x: np.where(x < 128, x + 99, x)),
        ImageEnhance.Color(image).enhance(0.19),
        ImageEnhance.Contrast(image).enhance(0.19),
        ImageEnhance.Brightness(image).enhance(0.19),
        ImageEnhance.Sharpness(image).enhance(0.19),
        affine(1, -0.27, 0, 0, 1, 0)(image),
        affine(1, 0, 0, -0.27, 1, 0)(image),
        affine(1, 0, -0.405 * 30, 0, 1, 0)(image),
        affine(1, 0, 0, 0, 1, -0.405 * 20)(image),
    ]
    assert len(OPERATIONS) == len(expected)
    for place, (operation, other) in enumerate(zip(OPERATIONS, expected, strict=True)):
        found, other = (np.asarray(x).astype(int) for x in (operation(image, 0.9, -1, 3), other))
        assert np.abs(found - other).max() <= 1, place
        assert place in (0, 1) or not np.array_equal(found, np.asarray(image)), place
    for level in (0.0, 1.0):
        assert all(operation(image, level, sign, 2).size == image.size for operation in OPERATIONS for sign in (-1, 1))


def test_rand_augment_does_half_of_what_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import host_augmentation

    done = []
    operations = [
        lambda image, level, sign, resample, number=number: done.append((number, level, sign)) or image
        for number in range(15)
    ]
    monkeypatch.setattr(host_augmentation, "OPERATIONS", operations)
    generator, image = np.random.default_rng(0), noise(0)
    for _ in range(3000):
        rand_augment(generator, image, operations=2, magnitude=9.0, magnitude_std=0.5, resample=3)
    numbers, drawn, signs = (np.array(x) for x in zip(*done, strict=True))
    assert abs(len(done) / 6000 - 0.5) < 0.03
    assert np.abs(np.bincount(numbers, minlength=15) / len(done) * 15 - 1).max() < 0.25
    assert abs((signs == 1).mean() - 0.5) < 0.03
    assert drawn.max() <= 1 and abs(drawn.mean() - 0.9) < 0.01 and abs(np.median(drawn) - 0.9) < 0.005
    assert 0.04 < drawn.std() < 0.051  # 0.05, less what is cut off at 1
