"""Panoptic quality equals panopticapi's, and mean IoU the slow, obvious way."""

import numpy as np
import pytest

from data.ragged import IGNORED
from evaluation.metrics.mean_iou import areas, intersections_over_unions
from evaluation.metrics.panoptic_quality import counts, qualities
from tests.evaluation.scenes.panoptic_cases import CLASSES, RECORDED, THINGS, drawn


def test_panoptic_quality_is_that_of_panopticapi() -> None:
    table = sum(counts(case.right, case.there, case.guessed, case.found, CLASSES, case.crowd) for case in drawn())
    figures = qualities(table, THINGS)
    for name, value in RECORDED["All"].items():
        assert figures[name] == pytest.approx(100 * value, abs=1e-9), name
    assert figures["pq_things"] == pytest.approx(100 * RECORDED["Things"]["pq"], abs=1e-9)
    assert figures["pq_stuff"] == pytest.approx(100 * RECORDED["Stuff"]["pq"], abs=1e-9)


def test_a_perfect_segmentation_has_quality_100_and_none_0() -> None:
    for case in drawn():
        plain = {one: label for one, label in case.there.items() if one not in case.crowd}
        shown = np.where(np.isin(case.right, list(plain)), case.right, 0)
        if plain:
            perfect = qualities(counts(shown, plain, shown, plain, CLASSES))
            assert perfect["pq"] == perfect["sq"] == perfect["rq"] == 100
            assert qualities(counts(shown, plain, np.zeros_like(shown), {}, CLASSES))["pq"] == 0
    assert qualities(np.zeros((CLASSES, 4)))["pq"] == 0


def test_mean_iou_the_slow_way() -> None:
    draw = np.random.default_rng(1)
    pictures = [(draw.integers(0, 5, (9, 11)), draw.integers(0, 6, (9, 11))) for _ in range(4)]
    for right, _ in pictures:
        right[:2] = IGNORED
    table = sum(areas(right, guessed, 7) for right, guessed in pictures)
    pairs = [
        (a, b)
        for right, guessed in pictures
        for a, b in zip(right.ravel(), guessed.ravel(), strict=True)
        if a != IGNORED
    ]
    unions = {c: sum(c in pair for pair in pairs) for c in range(7)}
    each = [sum(a == b == c for a, b in pairs) / unions[c] for c in range(7) if unions[c]]
    figures = intersections_over_unions(table)
    assert len(each) == 6 and figures["miou"] == pytest.approx(100 * np.mean(each))
    assert figures["pixel_accuracy"] == pytest.approx(100 * np.mean([a == b for a, b in pairs]))
