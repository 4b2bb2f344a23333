"""Drawn scenes: boxes, masks and depth where they belong, and what reports say of an example."""

import numpy as np
import pytest

from data.ragged import IGNORED
from experiments.show import scenes

GREY = np.full((120, 160, 3), 90, np.uint8)


def test_a_box_is_drawn_along_its_edges_and_nowhere_within() -> None:
    drawn = scenes.draw_boxes(GREY, np.array([[30, 40, 100, 90], [10, 10, 10, 20]]), ["cat", "none"], [0.8, 0.5])
    changed = (drawn != GREY).any(axis=-1)
    assert (
        changed[40:90, 30].all()
        and changed[40:90, 99].all()
        and changed[40, 30:100].all()
        and changed[89, 30:100].all()
    )
    assert not changed[42:88, 32:98].any() and not changed[:, 102:].any() and not changed[92:].any()
    assert (drawn[60, 30] == scenes.color(0)).all() and (GREY == 90).all()


def test_masks_color_their_pixels_alone() -> None:
    masks = np.zeros((2, 120, 160), np.uint8)
    masks[0, :50, :50], masks[1, 60:, 60:] = 1, 1
    drawn = scenes.draw_masks(GREY, masks, ["a", "b"])
    changed = (drawn != GREY).any(axis=-1)
    assert (changed == masks.any(axis=0)).all()
    assert (drawn[2, 2] != drawn[118, 158]).any()


def test_near_is_brighter_than_far_and_unknown_is_grey() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 0.0, np.inf]])
    drawn = scenes.colour_depth(depth)
    light = drawn[0].astype(int).sum(axis=1)
    assert light[0] > light[1] > light[2] and (drawn[0, 3:] == scenes.UNKNOWN).all()
    assert (scenes.colour_depth(np.zeros((2, 2))) == scenes.UNKNOWN).all()


@pytest.mark.parametrize("asks", ["boxes", "masks", "depth"])
def test_an_example_is_drawn_with_what_is_asked_and_found(asks: str) -> None:
    mask = np.zeros((16, 24), np.int32)
    mask[:12, :20] = 1
    picture = np.full((16, 24, 3), 50, np.uint8) * mask[..., None].astype(np.uint8)
    example, outputs, names = {"pixel_mask": mask}, {}, ("cat", "dog")
    if asks == "depth":
        example["labels"] = np.where(mask > 0, 2.0, 0).astype(np.float32)
        outputs = {"predicted_depth": np.full((8, 12), 3.0)}
    else:
        example["class_labels"] = np.array([1, IGNORED], np.int32)
        example["boxes"] = np.array([[0.25, 0.25, 0.25, 0.5], [0, 0, 0, 0]], np.float32)
        outputs = {"pred_boxes": example["boxes"], "guess": np.array([1, 2]), "probability": np.array([0.9, 0.9])}
    if asks == "masks":
        example["mask_labels"] = np.zeros((2, 16, 24), np.uint8)
        example["mask_labels"][0, :8, 3:9] = 1
        logits = np.where(example["mask_labels"] > 0, 5.0, -5.0)
        outputs = {"class_queries_logits": np.array([[0.0, 9, 0], [0, 0, 9]]), "masks_queries_logits": logits}
    assert scenes.is_scene(example) and not scenes.is_scene({"pixel_values": picture, "labels": np.zeros(())})
    asked = scenes.asked(example, picture, names)
    found = scenes.guessed(example, outputs, picture, names)
    assert asked.shape == found.shape == (12 * 17, 20 * 17, 3) and asked.dtype == found.dtype == np.uint8
    if asks != "depth":
        plain = scenes.larger(picture[:12, :20])
        assert 0 < (asked != plain).any(axis=-1).mean() < 0.5
        assert (asked == found).mean() > 0.9
    lines = "\n".join(scenes.explained(example, names))
    assert "the picture takes 12 × 20 of it" in lines
    assert {
        "boxes": "1 dog: centre, width and height 0.250 0.250 0.250 0.500",
        "masks": "48 pixels",
        "depth": "240 pixels",
    }[asks] in lines
