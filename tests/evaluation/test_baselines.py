"""Baselines: what a guesser that does not look can reach, and what the tables say of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evaluation.baselines import comparison, constant
from objectives.losses import IGNORED, cross_entropy
from objectives.objective import Targets


@pytest.mark.parametrize("smoothing, factor", [(0.0, 1.0), (0.1, 1.0), (0.0, 50.0)])
def test_no_constant_guess_has_a_lower_loss(smoothing, factor):
    labels = jnp.array([[0, 1, 1, IGNORED], [3, 1, 0, IGNORED]])
    base = constant(Targets(labels, 4, smoothing=smoothing, factor=factor))

    @jax.jit
    def loss(logits):
        amount, weight = cross_entropy(jnp.broadcast_to(logits, (2, 4, 4)), labels, smoothing)
        return amount / weight

    logits, optimizer = jnp.zeros(4), optax.lbfgs()
    state = optimizer.init(logits)

    @jax.jit
    def improve(logits, state):
        value, gradient = jax.value_and_grad(loss)(logits)
        updates, state = optimizer.update(gradient, state, logits, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(logits, updates), state

    for _ in range(40):
        logits, state = improve(logits, state)
    assert base.loss == pytest.approx(factor * float(loss(logits)), rel=1e-3)
    assert base.loss <= factor * (float(loss(logits)) + 1e-5)
    assert (base.accuracy, base.count) == (0.5, 6)
    assert base.standard_error == pytest.approx(np.sqrt(0.25 / 6))


def test_of_one_answer_nothing_is_to_be_learned():
    base = constant(Targets(np.zeros(8, np.int32), 2))
    assert (base.loss, base.accuracy, base.standard_error) == (0.0, 1.0, 0.0)


def test_nothing_asked_is_an_error():
    with pytest.raises(ValueError, match="nothing is asked for"):
        constant(Targets(np.full(3, IGNORED), 2))


def test_the_table_has_every_loss_beside_its_baseline():
    held_out = {"loss": 3.5, "a_loss": 1.0, "b_loss": 2.5, "b_accuracy": 0.75}
    base = {"loss": 3.0, "accuracy": 0.5, "standard_error": 0.05, "count": 100, "metric": "b_accuracy"}
    rows = comparison(held_out, {"b_loss": base})
    assert [row[:3] for row in rows] == [
        ("a loss", "1.000", ""),
        ("b loss, nats", "2.500", "3.000"),
        ("b accuracy", "75.0%", "50.0%"),
        ("loss", "3.500", ""),
    ]
    assert "+5.0 standard errors" in rows[2][3]
    assert "weight" not in rows[1][3]


def test_only_what_is_in_nats_is_said_to_be():
    held_out = {"loss": 2.0, "pixel_loss": 1.0, "word_loss": 1.0, "average_word_loss": 1.0}
    rows = comparison(held_out, {}, {"word_loss": "nats", "loss": ""})
    assert [row[0] for row in rows] == ["pixel loss", "word loss, nats", "average word loss, nats", "loss"]


def test_the_table_says_that_a_loss_is_weighted():
    base = dataclasses.asdict(constant(Targets(np.arange(8) % 2, 2, factor=0.3)))
    ((_, _, loss, said),) = comparison({"b_loss": 0.2}, {"b_loss": base})
    assert loss == f"{0.3 * np.log(2):.3f}"
    assert "times 0.3" in said
