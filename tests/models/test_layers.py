"""Layers with derivatives of their own, against those that JAX finds of the same formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import ACTIVATIONS, ModelError, activation, gated

GATE, X, SEED = (jnp.asarray(np.random.default_rng(seed).normal(size=(3, 4, 5)), jnp.float32) for seed in range(3))


def assert_the_same(ours, theirs, *arguments):
    """Values, gradients, and gradients of gradients."""

    def slope(function):
        def sloped(*arguments):
            value, back = jax.vjp(function, *arguments)
            return value, back(SEED)

        return sloped

    for found, wanted in (
        (slope(ours)(*arguments), slope(theirs)(*arguments)),
        *(
            (jax.grad(lambda *x, f=ours: jnp.sum(jnp.sin(slope(f)(*x)[1][0])), argnums=n)(*arguments),
             jax.grad(lambda *x, f=theirs: jnp.sum(jnp.sin(slope(f)(*x)[1][0])), argnums=n)(*arguments))
            for n in range(len(arguments))
        ),
    ):  # fmt: skip
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_derivatives_of_their_formulas(name):
    assert_the_same(activation(name), ACTIVATIONS[name], X)
    assert_the_same(lambda gate, x: gated(name, gate, x), lambda gate, x: ACTIVATIONS[name](gate) * x, GATE, X)


def test_the_backward_pass_of_a_gate_keeps_its_two_inputs():
    kept = jax.tree.leaves(jax.vjp(lambda gate, x: gated("gelu_new", gate, x), GATE, X)[1])
    assert len([array for array in kept if getattr(array, "shape", None) == X.shape]) == 2


def test_an_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"unknown activation 'gelu_neu'.*gelu_new"):
        activation("gelu_neu")
