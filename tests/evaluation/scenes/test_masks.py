"""Average precision of instances that queries predict, straight from a model's outputs to pycocotools."""

import jax.numpy as jnp
import numpy as np
import pytest

from data.scenes.scene import Scene, boxes_of
from evaluation.metrics.masks import MaskPrecision, best

SIZE, CANVAS = (40, 64), (64, 64)


class Examples:
    """Two instances and a stuff segment in a picture, which takes the upper part of its canvas."""

    masks = np.zeros((3, *SIZE), np.uint8)
    masks[0, :20, :20], masks[1, 24:40, 30:60] = 1, 1
    masks[2] = 1 - masks[:2].sum(axis=0)
    scenes = (Scene(np.zeros((*SIZE, 3), np.uint8), np.array([1, 0, 2], np.int32), boxes_of(masks), masks),)

    def items(self, indices: np.ndarray) -> np.ndarray:
        return indices

    def scene(self, item: int, masks: bool = False) -> Scene:
        return self.scenes[item]


def state(metric: MaskPrecision, logits: np.ndarray, scores: np.ndarray) -> dict:
    mask = np.zeros((1, *CANVAS), np.int32)
    mask[0, : SIZE[0]] = 1
    outputs = {"class_queries_logits": jnp.asarray(scores)[None], "masks_queries_logits": jnp.asarray(logits)[None]}
    rows = metric.update(outputs, {"pixel_mask": jnp.asarray(mask), "index": jnp.arange(1)})
    return metric.condensed({name: np.asarray(x) for name, x in rows.items()}, Examples())


def predicted() -> tuple[np.ndarray, np.ndarray]:
    """Five queries: the three segments, and two that are nothing."""
    logits, scores = np.full((5, 16, 16), -8.0), np.full((5, 4), -6.0)
    shown = np.zeros((3, *CANVAS))
    shown[:, : SIZE[0]] = Examples.masks
    logits[:3] = 16 * shown.reshape(3, 16, 4, 16, 4).mean(axis=(2, 4)) - 8
    scores[[0, 1, 2, 3, 4], [1, 0, 2, 3, 3]] = 6
    return logits, scores


@pytest.mark.parametrize("compare", ["masks", "boxes"])
def test_what_is_right_has_a_precision_of_1_and_what_is_not_has_less(compare: str) -> None:
    metric = MaskPrecision(compare=compare, stuff=(2,))
    logits, scores = predicted()
    figures = metric.compute(state(metric, logits, scores))
    assert set(figures) == set(metric.figures) and figures["mask_ap50"] == pytest.approx(1.0)
    assert figures["mask_ap"] > 0.85
    moved = np.roll(logits, 3, axis=2)
    assert metric.compute(state(metric, moved, scores))["mask_ap75"] < 0.5
    swapped = scores[:, [1, 0, 2, 3]]
    assert metric.compute(state(metric, logits, swapped))["mask_ap"] == 0


def test_scores_are_of_class_and_mask_the_slow_way() -> None:
    draw = np.random.default_rng(0)
    logits, scores = draw.normal(0, 3, (6, 9, 11)).astype(np.float32), draw.normal(0, 2, (6, 4)).astype(np.float32)
    found = best(scores, logits)
    powers = np.exp(scores.astype(np.float64))
    pairs = sorted(
        ((powers[q, c] / powers[q].sum(), q, c) for q in range(6) for c in range(3)), key=lambda pair: -pair[0]
    )[:6]
    assert len(found.labels) == 6
    for number, (probability, query, label) in enumerate(pairs):
        inside = [x for x in logits[query].ravel().tolist() if x > 0]
        mean = sum(1 / (1 + np.exp(-x)) for x in inside) / len(inside)
        assert found.labels[number] == label and found.scores[number] == pytest.approx(probability * mean, rel=1e-4)
        assert (found.masks[number] == (logits[query] > 0)).all()
    assert not np.isin(best(scores, logits, stuff=(1,)).labels, 1).any()
