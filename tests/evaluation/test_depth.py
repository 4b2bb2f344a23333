"""Errors of depth against their definitions, written pixel by pixel."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from evaluation.bootstrap import interval
from evaluation.metric import MetricError
from evaluation.metrics.depth import DepthErrors

SHAPE = (3, 48, 64)
PARTS = {"": (0, 48, 0, 64), "eigen_nyu": (4, 47, 4, 60), "garg": (19, 47, 2, 61), "eigen_kitti": (15, 43, 2, 61)}


def cases() -> tuple[np.ndarray, np.ndarray]:
    """Predictions, some beyond the limits or none at all, and depth with holes, negatives and infinities; none of the last."""
    random = np.random.default_rng(0)
    depth = random.uniform(0.5, 11, SHAPE).astype(np.float32)
    predicted = (depth * np.exp(random.normal(0, 0.3, SHAPE))).astype(np.float32)
    for value in (0.0, -1.0, np.inf, np.nan):
        depth[random.random(SHAPE) < 0.1] = value
    for value in (0.0, np.inf, np.nan):
        predicted[random.random(SHAPE) < 0.02] = value
    depth[2] = 0
    return predicted, depth


def slowly(predicted: np.ndarray, depth: np.ndarray, crop: str, focus: float) -> dict[str, float]:
    """Of one picture, in a loop over its pixels."""
    top, bottom, left, right = PARTS[crop]
    pairs = []
    for row in range(top, bottom):
        for column in range(left, right):
            p, t = float(predicted[row, column]), float(depth[row, column])
            if math.isfinite(t) and 1e-3 < t < 10:
                pairs.append((1e-3 if math.isnan(p) else min(max(p, 1e-3), 10.0), t))
    logs = [math.log(p) - math.log(t) for p, t in pairs]
    count = len(pairs)
    squared, mean = sum(d * d for d in logs) / count, sum(logs) / count
    return {
        "abs_rel": sum(abs(p - t) / t for p, t in pairs) / count,
        "sq_rel": sum((p - t) ** 2 / t for p, t in pairs) / count,
        "rmse": math.sqrt(sum((p - t) ** 2 for p, t in pairs) / count),
        "rmse_log": math.sqrt(squared),
        "silog": math.sqrt(squared - focus * mean**2),
        "log10": sum(abs(math.log10(p) - math.log10(t)) for p, t in pairs) / count,
        **{f"delta{n}": sum(max(p / t, t / p) < 1.25**n for p, t in pairs) / count for n in (1, 2, 3)},
    }


def rows_of(metric: DepthErrors, predicted: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
    state = metric.update({"predicted_depth": jnp.asarray(predicted)}, {"labels": jnp.asarray(depth)})
    return {name: np.asarray(x) for name, x in state.items()}


@pytest.mark.parametrize("crop", PARTS)
@pytest.mark.parametrize("focus", [0.5, 1.0])
def test_they_are_their_definitions(crop, focus):
    predicted, depth = cases()
    metric = DepthErrors(crop=crop, variance_focus=focus)
    found = metric.compute(rows_of(metric, predicted, depth))
    each = [slowly(predicted[n], depth[n], crop, focus) for n in (0, 1)]
    assert found == {name: pytest.approx((each[0][name] + each[1][name]) / 2, rel=1e-4) for name in each[0]}
    assert tuple(found) == metric.figures and 0 < found["delta1"] < found["delta2"] < found["delta3"] < 1


def test_the_crop_of_nyu_is_that_of_its_pixels():
    _, rows, columns = DepthErrors(crop="eigen_nyu").part(jnp.zeros((1, 480, 640)))
    assert (rows, columns) == (slice(45, 471), slice(41, 601))


def test_a_right_answer_has_no_error():
    _, depth = cases()
    metric = DepthErrors()
    found = metric.compute(rows_of(metric, depth, depth))
    assert found == {name: pytest.approx(float(name.startswith("delta")), abs=1e-6) for name in metric.figures}


def test_pictures_are_resampled_whole_and_empty_ones_left_out():
    random = np.random.default_rng(1)
    depth = np.full((40, 2, 2), 2.0, np.float32)
    predicted = depth * (1 + random.uniform(0, 0.2, (40, 1, 1))).astype(np.float32)
    depth[::4] = 0
    metric = DepthErrors()
    rows = rows_of(metric, predicted, depth)
    errors = np.abs(predicted - 2)[np.arange(40) % 4 > 0, 0, 0] / 2
    assert metric.compute(rows)["abs_rel"] == pytest.approx(errors.mean(), rel=1e-5)
    low, high = interval(metric.compute, rows, resamples=400)["abs_rel"]
    assert low < errors.mean() < high and high - low == pytest.approx(
        2 * 1.96 * errors.std() / len(errors) ** 0.5, rel=0.2
    )
    nothing = metric.compute({name: x[:1] for name, x in rows.items()})
    assert set(nothing.values()) == {0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"crop": "middle"}, "crop='middle': expected eigen_nyu"), ({"min_depth": 20.0}, "the smaller first")],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(MetricError, match=message):
        DepthErrors(**settings)
    with pytest.raises(MetricError, match="not a number for each of the labels"):
        rows_of(DepthErrors(), np.ones((1, 2, 3)), np.ones((1, 4, 6)))
