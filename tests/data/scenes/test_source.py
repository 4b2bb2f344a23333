"""Scenes as examples: padded to canvases, boxes and masks that agree, the same however a run is cut."""

import dataclasses
import pickle

import numpy as np
import pytest

from data import DataError
from data.forms import SceneForm
from data.loader import load
from data.ragged import IGNORED
from data.scenes.source import Scenes
from data.scenes.transforms import Alteration

FORM = SceneForm((128, 128), objects=6, reads=("mask_labels",))
PARTS = Alteration(short_sides=(48, 64, 96), longest=128, part=0.5, part_short_sides=(64,), part_sides=(40, 64))


def corners(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(left, top, right, bottom) in pixels of the canvas."""
    x, y, width, height = boxes.T
    edges = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return edges * np.tile(size[::-1], 2)


def test_boxes_are_those_of_the_masks_and_nothing_lies_in_the_padding(demos) -> None:
    data = demos()
    held_out, count = data.held_out(FORM), data.counts[1]
    batch = held_out.batch(np.arange(count))
    assert data.counts == (48, 16) and len(set(map(tuple, data.pixels.tolist()))) > 3
    for row in range(count):
        height, width = data.pixels[data.held_out_items[row]]
        shape = np.zeros((128, 128), int)
        high, wide = held_out.processor.resized((height, width))
        shape[:high, :wide] = 1
        assert (batch["pixel_mask"][row] == shape).all()
        assert not batch["pixel_values"][row][shape == 0].any() and batch["pixel_values"][row][shape == 1].any()
        labels, masks = batch["class_labels"][row], batch["mask_labels"][row]
        there = labels != IGNORED
        assert 1 <= there.sum() <= 5 and there[: there.sum()].all() and (labels[there] < 10).all()
        assert not masks[~there].any() and not batch["boxes"][row][~there].any() and not masks[:, shape == 0].any()
        for box, mask in zip(corners(batch["boxes"][row][there], (128, 128)), masks[there], strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(box - around).max() <= 0.51 * max(high / height, 1) + 0.5


def test_blank_examples_have_the_shapes_of_real_ones(demos) -> None:
    for source, form, settings in (
        ("digit_scenes/tiny", FORM, {}),
        ("digit_scenes/tiny", SceneForm((128, 128), objects=12), {"annotations": "panoptic"}),
        ("rendered_depth/tiny", SceneForm((96, 128), objects=0, reads=("labels",)), {}),
    ):
        data = demos(source, **settings)
        blank, real = data.settings.outline(10).training(form, 0)[0], data.training(form, 0)[0]
        shapes = [{name: (x.shape, x.dtype) for name, x in one.items()} for one in (blank, real)]
        assert shapes[0] == shapes[1], source


def test_panoptic_and_semantic_scenes_cover_each_pixel_once(demos) -> None:
    for kind, most in (("panoptic", 6), ("semantic", 6)):
        data = demos(annotations=kind)
        assert data.vocabulary.labels[-1] == "photograph" and 10 in data.stuff
        batch = data.held_out(dataclasses.replace(FORM, objects=most)).batch(np.arange(16))
        assert (batch["mask_labels"].sum(axis=1) == batch["pixel_mask"]).all()
        for labels in batch["class_labels"]:
            stuff = labels[np.isin(labels, data.stuff)]
            assert (labels == 10).sum() == 1 and len(set(stuff)) == len(stuff)


def test_depth_is_that_of_the_picture(demos) -> None:
    data = demos("rendered_depth/tiny", alteration=Alteration(flip=1.0))
    form = SceneForm((96, 128), objects=0, reads=("labels",))
    mirrored, plain = data.training(form, 0), data.examples(data.training_items, form, 0).in_order()
    assert data.vocabulary.labels == ()
    seen, right = mirrored[3], plain[int(mirrored.items(np.array([3]))[0])]
    assert (seen["labels"] == right["labels"][:, ::-1]).all() and right["labels"].max() < 12
    assert (seen["pixel_values"] == right["pixel_values"][:, ::-1]).all()
    assert 0 < (right["labels"] == 0).mean() < 0.3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_same_batches_on_any_number_of_processes(demos, processes: int) -> None:
    form = dataclasses.replace(FORM, buckets=3, together=8)
    examples = demos(alteration=PARTS).training(form, 7)
    whole = list(load(examples, batch_size=8, first_step=3, last_step=15))  # over the end of an epoch of 48
    parts = [
        list(load(pickle.loads(pickle.dumps(examples)), batch_size=8, first_step=3, last_step=15, shard=(n, processes)))
        for n in range(processes)
    ]
    canvases = set()
    for step, batch in enumerate(whole):
        for name, array in batch.items():
            together = np.concatenate([part[step][name] for part in parts], axis=1)
            assert (together == array).all(), (step, name)
        canvases.add(batch["pixel_values"].shape[2:4])
    assert 1 < len(canvases) <= 3


def test_batches_of_buckets_pad_little(demos) -> None:
    data = demos(alteration=PARTS)
    covered = {}
    for buckets in (1, 4):
        form = dataclasses.replace(FORM, buckets=buckets, together=8)
        batches = list(load(data.training(form, 0), batch_size=8, first_step=0, last_step=12))
        covered[buckets] = np.mean([batch["pixel_mask"].mean() for batch in batches])
    assert covered[4] > 1.25 * covered[1]


def test_each_epoch_shows_each_scene_once_and_otherwise(demos) -> None:
    examples = demos(alteration=PARTS).training(dataclasses.replace(FORM, buckets=3, together=8), 0)
    epochs = [examples.items(np.arange(48) + 48 * epoch) for epoch in range(3)]
    assert all(sorted(items) == list(range(48)) for items in epochs) and (epochs[0] != epochs[1]).any()
    places = [48 * epoch + np.argsort(epochs[epoch]) for epoch in (0, 1)]
    first, second = (np.stack([examples[place]["pixel_values"] for place in some]) for some in places)
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.8


def test_what_does_not_fit_is_refused(demos) -> None:
    data = demos()
    with pytest.raises(DataError, match=r"128 in width at most, and form.size is \(128, 100\)"):
        data.held_out(dataclasses.replace(FORM, size=(128, 100)))
    with pytest.raises(DataError, match=r"holds \d objects, and form\.objects is 1: make it larger"):
        data.held_out(dataclasses.replace(FORM, objects=1)).batch(np.arange(16))
    with pytest.raises(DataError, match="no configuration 'small', but full, tiny"):
        demos("digit_scenes/small")
    with pytest.raises(DataError, match="rendered_depth has no annotations 'panoptic'"):
        demos("rendered_depth/tiny", annotations="panoptic")
    with pytest.raises(DataError, match="of these pictures the depth alone is known"):
        demos("rendered_depth/tiny").held_out(SceneForm((96, 128)))
    with pytest.raises(DataError, match="longest=100"):
        Scenes(shortest=200, longest=100)
    with pytest.raises(DataError, match="there is no folder"):
        Scenes(source="/nowhere/at/all").prepare(0, None, lambda text: None)


def test_another_seed_draws_otherwise_and_the_fingerprint_is_of_the_data(demos) -> None:
    data, again = demos(), demos()
    assert data.fingerprint == again.fingerprint != demos(annotations="panoptic").fingerprint
    one, other = (data.training(FORM, seed).batch(np.arange(8)) for seed in (0, 1))
    assert (one["pixel_values"] != other["pixel_values"]).any()


def test_the_form_of_a_bucket_has_examples_of_its_size(demos) -> None:
    data = demos(alteration=PARTS)
    form = dataclasses.replace(FORM, buckets=3, together=8)
    for lengths in data.training(form, 0).buckets.lengths.tolist():
        example = data.training(dataclasses.replace(form.of_lengths(*lengths), buckets=1), 0)[0]
        assert example["pixel_values"].shape == (*lengths, 3) and example["pixel_mask"].any()
