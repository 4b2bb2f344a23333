"""Strips of depth in pictures: where they lie, how often there are some, and what else changes."""

import dataclasses

import numpy as np
import pytest

from data.errors import DataError
from data.forms import SceneForm
from data.scenes.scene import Scene
from data.scenes.transforms import Alteration

HEIGHT, WIDTH, COUNT = 5, 40, 2_000
ALTERATION = Alteration(flip=0.0, cut_depth=0.25, cut_depth_width=0.5)


def scene() -> Scene:
    """A red picture, whose depth grows with the column from 0 to beyond what is white, with what is no depth in the last row."""
    depth = np.tile(np.linspace(0, 12, WIDTH, dtype=np.float32), (HEIGHT, 1))
    depth[-1, ::4] = np.array([np.nan, np.inf, -np.inf, -3, 0] * 2, np.float32)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = 200
    return Scene(picture, np.zeros(0, np.int32), np.zeros((0, 4)), depth=depth)


def strips() -> list[np.ndarray]:
    """Of many pictures the columns that are no longer red."""
    generator, before = np.random.default_rng(0), scene()
    found = []
    for _ in range(COUNT):
        after = ALTERATION.cut(generator, before)
        found.append(np.flatnonzero((after.picture != before.picture).any(axis=(0, 2))))
        assert after.depth is before.depth and (before.picture[..., 0] == 200).all()
    return found


def test_a_quarter_of_the_pictures_have_one_strip_of_their_depth():
    columns = [found for found in strips() if len(found)]
    assert abs(len(columns) - COUNT / 4) < 4 * (COUNT * 0.25 * 0.75) ** 0.5
    assert all((np.diff(found) == 1).all() for found in columns)
    starts = np.array([found[0] for found in columns])
    widths = np.array([len(found) for found in columns])
    assert (widths <= np.maximum(1, 0.5 * (WIDTH - starts))).all() and widths.max() > 14
    counts = np.histogram(starts, 4, (0, WIDTH))[0]
    assert (abs(counts - len(starts) / 4) < 4 * len(starts) ** 0.5).all(), "the left edge is anywhere"


def test_depth_is_grey_from_black_to_white():
    whole = dataclasses.replace(ALTERATION, cut_depth=1.0, cut_depth_width=1.0)
    generator = np.random.default_rng(1)
    seen = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(200):
        after = whole.cut(generator, scene())
        cut = (after.picture != scene().picture).any(axis=2).any(axis=0)
        depth = scene().depth
        expected = np.where(np.isfinite(depth) & (depth > 0), np.round(255 * np.minimum(depth / 10, 1)), 0)
        assert (after.picture[:, cut] == expected[:, cut, None]).all()
        assert (after.picture[:, ~cut] == scene().picture[:, ~cut]).all()
        seen |= cut[None]
    assert seen.mean() > 0.9


def test_without_depth_it_is_refused():
    with pytest.raises(DataError, match=r"cut_depth=0\.25: of these scenes no depth is known"):
        ALTERATION.cut(np.random.default_rng(0), dataclasses.replace(scene(), depth=None))
    for wrong in ({"cut_depth": 1.5}, {"cut_depth_white": 0.0}, {"cut_depth_width": -0.1}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            Alteration(**wrong)


def test_examples_have_them(demos):
    """The same example each time; and what is held out has none."""
    form = SceneForm((96, 128), objects=0, reads=("pixel_values", "labels"))
    plain, cut = (
        demos(
            "rendered_depth/tiny",
            image_processor_type="GLPNImageProcessor",
            alteration=Alteration(flip=0.0, cut_depth=x),
        )
        for x in (0.0, 1.0)
    )
    some = np.arange(8)
    before, after = (one.training(form, 0).batch(some) for one in (plain, cut))
    columns = (before["pixel_values"] != after["pixel_values"]).any(axis=(1, 3))
    assert columns.any(axis=1).all() and not columns.all(axis=1).any()
    np.testing.assert_array_equal(before["labels"], after["labels"])
    np.testing.assert_array_equal(after["pixel_values"], cut.training(form, 0).batch(some)["pixel_values"])
    held_out = [one.held_out(form).batch(some)["pixel_values"] for one in (plain, cut)]
    np.testing.assert_array_equal(*held_out)
