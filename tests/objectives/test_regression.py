"""Regression: the mean squared error, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Classification, ObjectiveError, Regression


def test_the_loss_is_the_mean_squared_error() -> None:
    logits, labels = jnp.array([[1.0], [2.5], [-1.0]]), jnp.array([1.0, 2.0, 3.0])
    amount, weight = Regression().loss({"logits": logits}, {"labels": labels})["regression_loss"]
    np.testing.assert_allclose(amount / weight, np.mean([0.0, 0.25, 16.0]))


def test_classes_and_numbers_are_not_mixed_up() -> None:
    with pytest.raises(ObjectiveError, match="labels are classes, and a regression predicts numbers"):
        Regression().loss({"logits": jnp.zeros((3, 1))}, {"labels": jnp.zeros(3, int)})
    with pytest.raises(ObjectiveError, match="not a number for each"):
        Regression().loss({"logits": jnp.zeros((3, 2))}, {"labels": jnp.zeros(3)})
    with pytest.raises(ObjectiveError, match="labels are numbers, and no classes"):
        Classification().loss({"logits": jnp.zeros((3, 2))}, {"labels": jnp.zeros(3)})
