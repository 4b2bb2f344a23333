"""Metrics against scikit-learn, and intervals against the formula of a proportion."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from evaluation.bootstrap import interval
from evaluation.metric import Collected, Metric, MetricError, concatenated
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.correlation import Correlation
from evaluation.metrics.f1 import F1
from evaluation.metrics.matthews import Matthews
from objectives.losses import IGNORED


@pytest.fixture(params=[(200,), (40, 7)], ids=["an example", "a token"])
def answers(request):
    """Logits of five classes, of which the last is never right, and labels, some of them ignored."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, request.param)
    logits = generator.normal(size=(*request.param, 5)) + 2 * np.eye(5)[labels]
    labels[generator.random(request.param) < 0.1] = IGNORED
    return {"logits": jnp.asarray(logits, jnp.float32)}, {"labels": jnp.asarray(labels, jnp.int32)}


def test_they_are_what_scikit_learn_says(answers):
    logits, labels = np.asarray(answers[0]["logits"]), np.asarray(answers[1]["labels"])
    asked = labels != IGNORED
    truth, guesses = labels[asked], logits.argmax(axis=-1)[asked]

    def ours(metric: Metric) -> dict[str, float]:
        return metric.compute({name: np.asarray(x) for name, x in metric.update(*answers).items()})

    assert ours(Accuracy()) == {"accuracy": pytest.approx(sklearn_metrics.accuracy_score(truth, guesses))}
    assert ours(F1("macro")) == {"macro_f1": pytest.approx(sklearn_metrics.f1_score(truth, guesses, average="macro"))}
    assert ours(Matthews()) == {"matthews": pytest.approx(sklearn_metrics.matthews_corrcoef(truth, guesses))}
    for positive in (1, 3):
        expected = sklearn_metrics.f1_score(truth == positive, guesses == positive)
        assert ours(F1(positive=positive)) == {"f1": pytest.approx(expected)}


def test_correlations_are_those_of_numbers_and_of_their_ranks():
    """Against the definitions: covariance over deviations, of the numbers and of their ranks (without ties)."""
    generator = np.random.default_rng(1)
    labels = generator.normal(size=50)
    guesses = np.exp(labels + generator.normal(size=50))
    state = Correlation().update({"logits": jnp.asarray(guesses)[:, None]}, {"labels": jnp.asarray(labels)})
    found = Correlation().compute({name: np.asarray(x) for name, x in state.items()})
    ranks = [np.argsort(np.argsort(x)) for x in (guesses, labels)]
    assert found["pearson"] == pytest.approx(np.corrcoef(guesses, labels)[0, 1], abs=1e-6)
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-6)
    assert Correlation().compute({"predicted": np.ones(3), "labels": np.arange(3)}) == {"pearson": 0.0, "spearman": 0.0}
    with pytest.raises(MetricError, match="not a number for each"):
        Correlation().update({"logits": jnp.zeros((3, 2))}, {"labels": jnp.zeros(3)})


def test_nothing_asked_is_nothing():
    empty = {"guesses": np.zeros(2, np.int32), "labels": np.full(2, IGNORED, np.int32)}
    assert F1().compute(empty) == {"f1": 0.0} and F1("macro").compute(empty) == {"macro_f1": 0.0}
    assert Accuracy().compute({"right": np.zeros(2, int), "asked": np.zeros(2, int)}) == {"accuracy": 0.0}


def test_labels_of_another_shape_are_refused():
    with pytest.raises(MetricError, match="not one for each"):
        Accuracy().update({"logits": jnp.zeros((3, 5))}, {"labels": jnp.zeros((3, 5))})


def test_an_interval_is_that_of_a_proportion():
    """Of 70 % right among 400: the bootstrap's percentiles are those of a binomial over n, p ± 1.96 √(p (1 - p) / n)."""
    right = np.arange(400) % 10 < 7
    state = {"right": right.astype(int), "asked": np.ones(400, int)}
    low, high = interval(Accuracy().compute, state, resamples=4_000)["accuracy"]
    spread = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert low == pytest.approx(0.7 - spread, abs=0.004) and high == pytest.approx(0.7 + spread, abs=0.004)
    narrow = interval(Accuracy().compute, state, level=0.6827, resamples=4_000)["accuracy"]
    assert (narrow[1] - narrow[0]) / 2 == pytest.approx(spread / 1.96, abs=0.003)
    assert interval(Accuracy().compute, state)["accuracy"] == interval(Accuracy().compute, state)["accuracy"]


def test_examples_are_resampled_whole():
    """Tokens of one example go together: 100 examples of 50 equal tokens are 100 draws, and no 5,000."""
    state = {"right": np.array([50, 0] * 50), "asked": np.full(100, 50)}
    low, high = interval(Accuracy().compute, state, resamples=2_000)["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 100), abs=0.03)


def test_rows_of_other_lengths_are_padded():
    ints = concatenated([np.ones((2, 1), np.int32), np.ones((1, 3), np.int32)])
    np.testing.assert_array_equal(ints, [[1, IGNORED, IGNORED], [1, IGNORED, IGNORED], [1, 1, 1]])
    floats = concatenated([np.ones((1, 2)), np.ones((1, 1))])
    assert np.isnan(floats[1, 1]) and not np.isnan(floats[0]).any()


def test_batches_in_any_order_with_copies_are_the_examples_once():
    collected = Collected((Accuracy(),))
    for index in ([5, 5, 2, 2], [9, 9, 0, 0]):
        state = {"right": np.array(index) * 10, "asked": np.ones(4, int)}
        rows = {"metrics": {0: state}, "index": np.array(index)}
        collected.add({}, rows, copies=2)
    (state,) = collected.states()
    np.testing.assert_array_equal(state["right"], [0, 20, 50, 90])
