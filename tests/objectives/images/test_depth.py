"""Depth against its formula, written pixel by pixel, and where nothing is asked."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Depth, ObjectiveError

SHAPE = (3, 4, 6)


def case() -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and depth in metres with holes, infinities and what no depth can be; none at all in the last picture."""
    random = np.random.default_rng(0)
    predicted, depth = (random.uniform(0.5, 9, SHAPE).astype(np.float32) for _ in range(2))
    depth[0, 0], depth[0, 1, 1], depth[1, 2, 2:4], depth[1, 3, 3], depth[2] = 0, np.inf, -3, np.nan, 0
    return predicted, depth


def loss(objective: Depth, predicted, depth) -> jax.Array:
    outputs, batch = {"predicted_depth": jnp.asarray(predicted)}, {"labels": jnp.asarray(depth)}
    return objective.losses(objective.sums(outputs, batch))["depth_loss"]


def pairs(most: float = math.inf) -> list[tuple[float, float]]:
    predicted, depth = (x.ravel().tolist() for x in case())
    return [(p, t) for p, t in zip(predicted, depth, strict=True) if math.isfinite(t) and 0 < t <= most]


@pytest.mark.parametrize(("focus", "most"), [(0.5, math.inf), (0.85, 5.0), (1.0, math.inf)])
def test_scale_invariant_is_its_formula_over_the_whole_batch(focus, most):
    logs = [math.log(p) - math.log(t) for p, t in pairs(most)]
    mean, squared = sum(logs) / len(logs), sum(d * d for d in logs) / len(logs)
    found = loss(Depth(variance_focus=focus, max_depth=most), *case())
    assert float(found) == pytest.approx(math.sqrt(squared - focus * mean**2), rel=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_prediction_of_another_scale(factor):
    """√(1 - λ) |log k| for k times what is right: nothing for a λ of 1."""
    _, depth = case()
    with np.errstate(invalid="ignore"):
        scaled = np.where(np.isfinite(depth) & (depth > 0), factor * depth, 1.0)
    assert float(loss(Depth(), scaled, depth)) == pytest.approx(math.sqrt(0.5) * abs(math.log(factor)), rel=1e-4)
    assert float(loss(Depth(variance_focus=1.0), scaled, depth)) < 1e-3


@pytest.mark.parametrize(
    ("criterion", "error"),
    [
        ("l1", lambda p, t: abs(p - t)),
        ("l2", lambda p, t: (p - t) ** 2),
        ("log_l1", lambda p, t: abs(math.log(p / t))),
    ],
)
def test_other_criteria_are_means(criterion, error):
    errors = [error(p, t) for p, t in pairs()]
    assert Depth(criterion).ratios and not Depth().ratios
    assert float(loss(Depth(criterion), *case())) == pytest.approx(sum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize("criterion", ["scale_invariant", "l1", "l2", "log_l1"])
@pytest.mark.parametrize("what", ["nothing asked", "all right", "predictions of 0"])
def test_losses_and_gradients_are_finite(criterion, what):
    predicted, depth = case()
    if what == "nothing asked":
        depth = np.array([0, np.inf, np.nan, -1], np.float32)[np.arange(np.prod(SHAPE)) % 4].reshape(SHAPE)
    elif what == "all right":
        depth = predicted
    else:
        predicted = np.zeros_like(depth)
    value, gradient = jax.value_and_grad(lambda x: loss(Depth(criterion), x, depth))(jnp.asarray(predicted))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert what == "predictions of 0" or value == 0


def test_pixels_without_a_label_have_no_gradient():
    predicted, depth = case()
    gradient = np.asarray(jax.grad(lambda x: loss(Depth(), x, depth))(jnp.asarray(predicted)))
    with np.errstate(invalid="ignore"):
        asked = np.isfinite(depth) & (depth > 0)
    assert (gradient[asked] != 0).all() and (gradient[~asked] == 0).all() and 0 < asked.sum() < asked.size


def test_watched_beside_it():
    predicted, depth = case()
    found = Depth().metrics({"predicted_depth": jnp.asarray(predicted)}, {"labels": jnp.asarray(depth)})
    expected = {
        "absolute_relative_error": [abs(p - t) / t for p, t in pairs()],
        "threshold_accuracy": [float(max(p / t, t / p) < 1.25) for p, t in pairs()],
    }
    for name, errors in expected.items():
        amount, weight = map(float, found[name])
        assert weight == len(errors) and amount == pytest.approx(sum(errors), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "l3"}, "criterion='l3': expected one of scale_invariant"),
        ({"max_depth": 0.0}, "max_depth=0"),
        ({"variance_focus": 1.5}, "variance_focus=1.5: a fraction"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(ObjectiveError, match=message):
        Depth(**settings)
    with pytest.raises(ObjectiveError, match="not a number for each pixel of the labels"):
        loss(Depth(), np.ones((1, 2, 2)), np.ones((1, 4, 4)))
