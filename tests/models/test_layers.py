"""Layers with derivatives of their own, against those that JAX finds of the same formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.config import ModelError
from models.kernels.linear import product_over_rows
from models.kernels.norm import normalized
from models.layers.activations import ACTIVATIONS, activation, gated

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


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_derivatives_of_their_formulas(name):
    assert_the_same(activation(name), ACTIVATIONS[name], X)
    assert_the_same(lambda gate, x: gated(name, gate, x), lambda gate, x: ACTIVATIONS[name](gate) * x, GATE, X)


def test_the_backward_pass_of_a_gate_keeps_its_two_inputs():
    kept = jax.tree.leaves(jax.vjp(lambda gate, x: gated("gelu_new", gate, x), GATE, X)[1])
    assert len([array for array in kept if getattr(array, "shape", None) == X.shape]) == 2


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "silu"])
def test_a_program_keeps_what_an_activation_is_given_and_nothing_beside_it(name):
    def bytes_of_the_gradient(function):
        def loss(x, up, down):
            return jnp.sum((function(x @ up) @ down) ** 2)

        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 8), (8, 512), (512, 8))]
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one_array = 64 * 512 * 4
    assert bytes_of_the_gradient(activation(name)) <= bytes_of_the_gradient(ACTIVATIONS[name]) - one_array


def test_rectified_linear_units_are_those_of_jax_and_let_nan_pass():
    x = jnp.asarray([-jnp.inf, -2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(activation("relu")(x), jax.nn.relu(x))
    np.testing.assert_array_equal(
        jax.vmap(jax.grad(activation("relu")))(x[:-1]), jax.vmap(jax.grad(jax.nn.relu))(x[:-1])
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA's CPU backend computes again")
def test_a_sum_of_a_residual_connection_is_computed_once():
    def network(x, kernels):
        for kernel in kernels:
            x = activation("relu")(x + x @ kernel)
        return x

    layers = 4
    shapes = jax.ShapeDtypeStruct((64, 32), jnp.float32), [jax.ShapeDtypeStruct((32, 32), jnp.float32)] * layers
    assert jax.jit(network).lower(*shapes).compile().as_text().count(" add(") == layers


@pytest.mark.parametrize("outputs", [(8,), (24,), (4, 12)])
@pytest.mark.parametrize("inputs", [6, 48])
def test_the_sum_product_over_rows_is_the_same_whichever_side_is_wider(inputs, outputs):
    x, y = (jax.random.normal(jax.random.key(n), (40, *shape)) for n, shape in enumerate(((inputs,), outputs)))
    wanted = np.einsum("ri,r...->i...", np.float64(x), np.float64(y))
    np.testing.assert_allclose(product_over_rows(x, y, jnp.dtype("float32")), wanted, rtol=1e-5, atol=1e-5)
    found = jax.jit(product_over_rows, static_argnums=2)(
        x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), jnp.dtype("float32")
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=0.2)


def test_an_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"unknown activation 'gelu_neu'.*gelu_new"):
        activation("gelu_neu")


@pytest.mark.parametrize("with_bias", [True, False])
def test_norms_have_the_derivatives_of_their_formulas(with_bias):
    def formula(x, scale, bias):
        centred = x - x.mean(axis=-1, keepdims=True) if with_bias else x
        y = centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3) * scale[None, None]
        return y + bias[None, None] if with_bias else y

    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (2, 5, 8), (8,), (8,), (2, 5, 8)
    *given, gradient = (jax.random.normal(key, shape) + 1 for key, shape in zip(keys, shapes, strict=True))
    y, expected = jax.vjp(formula, *given)

    def ours(x, scale, bias):
        return normalized(x, scale, bias if with_bias else None, 1e-3, jnp.dtype("float32"))

    found_y, found = jax.vjp(ours, *given)
    np.testing.assert_allclose(found_y, y, atol=1e-5)
    for one, other in zip(found(gradient), expected(gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_backward_pass_of_a_norm_keeps_its_input_in_the_dtype_it_came_in():
    x, scale = jnp.ones((4, 6, 8), jnp.bfloat16), jnp.ones(8)
    saved = jax.vjp(lambda x: normalized(x, scale, scale, 1e-6, jnp.dtype("bfloat16")), x)[1]
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(saved)) <= x.nbytes + scale.nbytes + 2 * 4 * 6 * 4
