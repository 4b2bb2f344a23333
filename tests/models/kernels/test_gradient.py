"""What `with_gradient` promises: reverse mode takes the backward pass, forward mode the reference, under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from models.kernels.gradient import with_gradient

X, Y, V = (jax.random.normal(jax.random.key(n), (4, 3)) for n in range(3))


def formula(x, y, shift, *, power):
    return jnp.sin(x) * y**power + (0.0 if shift is None else shift)


def forward(x, y, shift, *, power):
    return formula(x, y, shift, power=power), (x, y)


def backward(residuals, gradient, *, power, factor=1.0):
    x, y = residuals
    return factor * gradient * jnp.cos(x) * y**power, gradient * jnp.sin(x) * power * y ** (power - 1), gradient


def make(factor=1.0):
    """The function; with another `factor` reverse mode is wrong about `x` by it, by which one sees who computes a derivative."""
    function = with_gradient(formula, forward, functools.partial(backward, factor=factor), lambda kept: (*kept, None))
    return functools.partial(function, power=2)


right, marked = make(), make(factor=5.0)
plain = functools.partial(formula, power=2)


def total(function):
    return lambda x, y, shift=None: function(x, y, shift).sum()


def test_reverse_mode_is_the_backward_pass_and_forward_mode_the_reference():
    np.testing.assert_allclose(jax.grad(total(marked))(X, Y), 5 * jax.grad(total(plain))(X, Y), rtol=1e-6)
    _, along = jax.jvp(lambda x: marked(x, Y, None), (X,), (V,))
    np.testing.assert_allclose(along, jax.jvp(lambda x: plain(x, Y, None), (X,), (V,))[1], rtol=1e-6)
    _, linear = jax.linearize(lambda x: marked(x, Y, None), X)
    np.testing.assert_allclose(linear(V), along, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(linear)(V), along, rtol=1e-6)
    np.testing.assert_allclose(jax.linear_transpose(linear, X)(Y)[0], jax.vjp(lambda x: marked(x, Y, None), X)[1](Y)[0])


def scanned(function):
    def run(x, y):
        def step(carry, row):
            return function(carry, row, None), carry.sum()

        return jnp.sum(jax.lax.scan(step, x[0], y)[0])

    return run


WRAPPED = {
    "jit": lambda function: jax.jit(total(function)),
    "scan": scanned,
    "remat": lambda function: jax.checkpoint(total(function)),
    "remat, nothing saved": lambda f: jax.checkpoint(total(f), policy=jax.checkpoint_policies.nothing_saveable),
    "remat in scan": lambda function: scanned(jax.checkpoint(function, prevent_cse=False)),
    "vmap": lambda function: lambda x, y: jax.vmap(total(function))(x, y).sum(),
    "vmap of one": lambda function: lambda x, y: jax.vmap(total(function), (0, None))(x, y[0]).sum(),
    "vmap over columns": lambda function: lambda x, y: jax.vmap(total(function), 1)(x, y).sum(),
    "cond": lambda f: lambda x, y: jax.lax.cond(x[0, 0] > -9, total(f), lambda x, y: x.sum(), x, y),
    "pmap": lambda function: lambda x, y: jax.pmap(total(function))(x, y).sum(),
    "shard_map": lambda function: lambda x, y: jax.shard_map(
        lambda x, y: function(x, y, None),
        mesh=Mesh(np.array(jax.devices()[:4]), ("data",)),
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
    )(x, y).sum(),
}  # fmt: skip


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", WRAPPED)
def test_both_modes_work_under(name):
    wrapped, expected = WRAPPED[name](right), WRAPPED[name](plain)
    both = jax.jit if name != "pmap" else lambda function: function
    for n in (0, 1):
        of_it = both(jax.grad(wrapped, argnums=n))(X, Y)
        np.testing.assert_allclose(of_it, jax.grad(expected, argnums=n)(X, Y), rtol=1e-5, atol=1e-6)
    one = both(jax.grad(WRAPPED[name](marked)))(X, Y)
    assert (
        np.abs(one).max() > 2 * np.abs(jax.grad(expected)(X, Y)).max()
    )  # the backward pass, not a derivative of the formula
    along = both(lambda x, y: jax.jvp(wrapped, (x, y), (V, V))[1])(X, Y)
    np.testing.assert_allclose(along, jax.jvp(expected, (X, Y), (V, V))[1], rtol=1e-5, atol=1e-6)


def test_batched_derivatives():
    for derivative in (jax.jacfwd, jax.jacrev, jax.hessian):
        found, wanted = derivative(total(right))(X, Y), derivative(total(plain))(X, Y)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    rows = jax.vmap(jax.grad(total(right)), (0, None))(X, Y[0])
    np.testing.assert_allclose(rows, jax.vmap(jax.grad(total(plain)), (0, None))(X, Y[0]), rtol=1e-5)


@pytest.mark.parametrize("outer", ["jvp of grad", "grad of jvp", "grad of grad", "jvp of jvp"])
def test_second_derivatives(outer):
    def second(function):
        f = total(function)
        inner = (
            jax.grad(f)
            if outer.endswith("grad")
            else lambda x, y: jax.jvp(lambda x: function(x, y, None), (x,), (V,))[1]
        )
        if outer.startswith("jvp"):
            return jax.jvp(inner, (X, Y), (V, V))[1]
        return jax.grad(lambda x, y: jnp.vdot(inner(x, y), V), argnums=(0, 1))(X, Y)

    for found, wanted in zip(jax.tree.leaves(second(right)), jax.tree.leaves(second(plain)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_the_derivative_does_not_depend_on_is_not_kept():
    shift = jnp.ones((4, 3))
    np.testing.assert_array_equal(jax.grad(total(right), argnums=2)(X, Y, shift), shift)
    np.testing.assert_allclose(jax.jvp(lambda s: right(X, Y, s), (shift,), (V,))[1], V)
    kept = jax.tree.leaves(jax.vjp(lambda *arrays: right(*arrays), X, Y, shift)[1])
    assert len(kept) == 2 and not any(leaf is shift for leaf in kept)


def test_a_backward_pass_that_gives_another_shape_or_dtype_is_refused():
    for wrong in (lambda x: x.sum(axis=0), lambda x: x.astype(jnp.bfloat16)):
        function = with_gradient(
            lambda x: x * 2, lambda x: (x * 2, ()), lambda _, g, wrong=wrong: (wrong(g),), lambda _: (None,)
        )
        with pytest.raises(TypeError, match="a backward pass gives"):
            jax.grad(lambda x, function=function: function(x).sum())(X)


def test_collectives_over_a_mapped_axis_have_both_derivatives():
    def centred(x):
        return jnp.sin(x - jax.lax.pmean(x, "data"))

    def pull(kept, gradient):
        gradient = gradient * jnp.cos(kept[0] - jax.lax.pmean(kept[0], "data"))
        return (gradient - jax.lax.pmean(gradient, "data"),)

    ours = with_gradient(centred, lambda x: (centred(x), (x,)), pull)
    found, wanted = (jax.vmap(function, axis_name="data") for function in (ours, centred))
    np.testing.assert_allclose(jax.vjp(found, X)[1](V)[0], jax.vjp(wanted, X)[1](V)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jvp(found, (X,), (V,))[1], jax.jvp(wanted, (X,), (V,))[1], rtol=1e-5, atol=1e-6)
