"""The span that answers a question: the loss as the formula has it, places that are not asked, and names that do not meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import AnswerSpan, named
from objectives.losses import IGNORED

ROWS, LENGTH = 5, 12


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    outputs = {name: rng.normal(size=(ROWS, LENGTH)).astype(np.float32) for name in ("start_logits", "end_logits")}
    places = {name: rng.integers(0, LENGTH, ROWS).astype(np.int32) for name in ("start_positions", "end_positions")}
    return jax.tree.map(jnp.asarray, (outputs, places))


def test_the_loss_is_the_mean_of_both_places(answers):
    outputs, batch = answers
    batch = {name: places.at[2].set(IGNORED) for name, places in batch.items()}
    total = 0.0
    for row in (0, 1, 3, 4):
        for name in ("start", "end"):
            scores = np.asarray(outputs[f"{name}_logits"][row], np.float64)
            total -= (scores[batch[f"{name}_positions"][row]] - np.log(np.exp(scores).sum())) / 2
    amount, weight = AnswerSpan().loss(outputs, batch)["span_loss"]
    assert weight == 4 and float(amount) == pytest.approx(total, rel=1e-5)


def test_each_place_has_an_accuracy(answers):
    outputs, batch = answers
    metrics = named("answer_span").metrics(outputs, batch)
    for name in ("start", "end"):
        right = (outputs[f"{name}_logits"].argmax(axis=-1) == batch[f"{name}_positions"]).sum()
        assert metrics[f"{name}_accuracy"] == (right, ROWS)
