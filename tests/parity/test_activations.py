"""Activations against those of live `transformers`, by the same names: values and derivatives, f32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.activations import ACTIVATIONS, activation
from tests.parity.reference import difference, torch

ACT2FN = pytest.importorskip("transformers.activations").ACT2FN
PARAMETRIC = {"prelu", "xielu"}
X = np.concatenate([np.linspace(-12, 12, 401), [-60.0, -30.0, 30.0, 60.0]]).astype(np.float32)


@pytest.mark.parametrize("name", sorted(set(ACT2FN) - PARAMETRIC))
def test_values_and_derivatives_are_theirs(name):
    x = torch.tensor(X, requires_grad=True)
    expected = ACT2FN[name](x)
    expected.sum().backward()
    found, derivative = jax.vmap(jax.value_and_grad(activation(name)))(jnp.asarray(X))
    assert difference(found, expected) < 1e-6
    assert difference(derivative, x.grad) < 1e-5


def test_all_are_there_but_those_with_parameters():
    assert set(ACT2FN) - PARAMETRIC == set(ACTIVATIONS)
