"""Convolutions and batch norms held against what must be true of them, without a reference implementation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.config import ModelConfig
from models.kernels import convolution, max_pool
from models.kernels.batch_norm import batch_normalized
from models.kernels.convolution import convolve
from models.kernels.window import Window
from models.layers.convolution import Conv
from models.layers.norm import BatchNorm

CONFIG = ModelConfig()
VERSIONS = {
    "cpu": (convolution.cpu_forward, convolution.cpu_input_gradient, convolution.cpu_kernel_gradient),
    "xla": (convolution.xla_forward, convolution.xla_input_gradient, convolution.xla_kernel_gradient),
}
WINDOWS = {
    "3 × 3": ((2, 9, 7, 4), 6, Window((3, 3), (1, 1), (1, 1))),
    "halving": ((2, 9, 8, 4), 6, Window((3, 3), (2, 2), (1, 1))),
    "stem": ((2, 13, 16, 3), 5, Window((7, 7), (2, 2), (3, 3))),
    "uneven": ((2, 9, 8, 3), 5, Window((2, 3), (3, 1), (0, 2))),
    "along a row": ((2, 5, 9, 4), 3, Window((1, 3), (1, 1), (0, 2))),
    "few channels": ((2, 6, 7, 2), 9, Window((3, 3), (1, 1), (1, 1))),
    "padded further than it reaches": ((2, 5, 6, 3), 4, Window((2, 3), (1, 1), (2, 1))),
    "patches": ((2, 11, 9, 3), 5, Window((4, 2), (4, 2))),
    "grouped": ((2, 6, 7, 4), 6, Window((3, 3), (1, 1), (1, 1), 2)),
    "depthwise": ((2, 6, 7, 5), 5, Window((7, 7), (1, 1), (3, 3), 5)),
    "depthwise, wide": ((2, 3, 33, 4), 4, Window((3, 5), (1, 1), (0, 1), 4)),
    "depthwise, halving": ((2, 9, 8, 4), 4, Window((3, 3), (2, 2), (1, 1), 4)),
    "a multiple": ((2, 6, 7, 4), 8, Window((3, 3), (1, 1), (1, 1), 4)),
    "1 × 1": ((2, 6, 7, 4), 3, Window((1, 1), (2, 2))),
    "dilated": ((2, 9, 7, 4), 6, Window((3, 3), (1, 1), (2, 2), dilation=(2, 2))),
    "dilated, uneven": ((2, 11, 12, 4), 6, Window((2, 3), (2, 1), (1, 4), 2, (3, 2))),
    "dilated, depthwise": ((2, 9, 8, 4), 4, Window((3, 3), (1, 1), (2, 2), 4, (2, 2))),
}


def arrays(shape, features, window):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*window.size, shape[-1] // window.groups, features))
    return jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(kernel, jnp.float32)


def slow(x, kernel, window):
    """The definition, place by place."""
    x = np.pad(x, ((0, 0), *((length, length) for length in window.padding), (0, 0)))
    height, width = window.reach
    down, right = window.dilation
    rows = (x.shape[1] - height) // window.stride[0] + 1
    columns = (x.shape[2] - width) // window.stride[1] + 1
    y = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    inputs, outputs = kernel.shape[2], kernel.shape[3] // window.groups
    for row in range(rows):
        for column in range(columns):
            top, left = row * window.stride[0], column * window.stride[1]
            seen = x[:, top : top + height : down, left : left + width : right]
            for group in range(window.groups):
                mine = slice(group * outputs, (group + 1) * outputs)
                part = seen[..., group * inputs : (group + 1) * inputs]
                y[:, row, column, mine] = np.einsum("bijc,ijco->bo", part, kernel[..., mine])
    return y


@pytest.mark.slow_but_first
@pytest.mark.parametrize("case", WINDOWS)
def test_a_convolution_is_its_definition_and_both_programs_have_its_gradients(case):
    shape, features, window = WINDOWS[case]
    x, kernel = arrays(shape, features, window)
    settings = dict(stride=window.stride, padding=window.padding, groups=window.groups, dilation=window.dilation)
    y, pull = jax.vjp(jax.jit(lambda x, kernel: convolve(x, kernel, **settings)), x, kernel)
    np.testing.assert_allclose(y, slow(np.asarray(x, np.float64), np.asarray(kernel, np.float64), window), atol=1e-4)

    gradient = jnp.cos(y)
    plain, its_pull = jax.vjp(lambda x, kernel: convolution.xla_forward(x, kernel, window), x, kernel)
    for found, expected in zip(pull(gradient), its_pull(gradient), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    for forward, input_gradient, kernel_gradient in VERSIONS.values():
        inputs = input_gradient(gradient, kernel, window, x.shape)
        weights = kernel_gradient(x, gradient, window, kernel.dtype)
        all_three = forward(x, kernel, window), inputs, weights
        for found, expected in zip(all_three, (plain, *its_pull(gradient)), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("case", ["3 × 3", "patches", "depthwise"])
def test_accelerators_run_xlas_convolution_and_nothing_else(case, platform):
    shape, features, window = WINDOWS[case]
    settings = dict(stride=window.stride, padding=window.padding, groups=window.groups)

    def loss(x, kernel):
        return jnp.sin(convolve(x, kernel, **settings)).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(*arrays(shape, features, window))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    for operation in ("dot_general", "concatenate", "stablehlo.slice"):
        assert operation not in text
    here = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert here.count("stablehlo.convolution") == (2 if case == "3 × 3" else 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", WINDOWS)
def test_the_kernels_gradient_is_not_rounded_to_the_dtype_it_is_computed_in(version, case):
    shape, features, window = WINDOWS[case]
    x, kernel = (array.astype(jnp.bfloat16) for array in arrays(shape, features, window))
    forward, _, kernel_gradient = VERSIONS[version]
    gradient = jnp.cos(forward(x, kernel, window))
    found = kernel_gradient(x, gradient, window, jnp.dtype("float32"))
    wide = kernel_gradient(x.astype(jnp.float32), gradient.astype(jnp.float32), window, jnp.dtype("float32"))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, atol=1e-5 * float(jnp.abs(wide).max()))


def test_a_layer_in_bfloat16_has_gradients_of_its_parameters_dtype():
    layer = Conv(dataclasses.replace(CONFIG, dtype="bfloat16"), 6, 3, padding=1)
    x = jnp.ones((2, 5, 5, 4))
    params = layer.init(jax.random.key(0), x)
    gradients = jax.grad(lambda p: layer.apply(p, x).astype(jnp.float32).sum())(params)
    assert layer.apply(params, x).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_batch_norms_are_the_same_however_the_batch_is_spread():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3, 3, 5)), jnp.float32)
    norm = BatchNorm(CONFIG)
    variables = norm.init(jax.random.key(0), x)

    def apply(x, axes):
        return norm.apply(variables, x, axes, mutable=["batch_stats"])

    whole, moved = apply(x, ())
    parts, its = jax.vmap(lambda part: apply(part, ("data",)), axis_name="data")(x.reshape(4, 2, 3, 3, 5))
    np.testing.assert_allclose(parts.reshape(x.shape), whole, atol=1e-5)
    for spread, expected in zip(jax.tree.leaves(its), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(spread[2], expected, atol=1e-6)
    rows = np.asarray(x).reshape(-1, 5)
    np.testing.assert_allclose(whole.reshape(-1, 5), (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(moved["batch_stats"]["var"], 0.9 + 0.1 * rows.var(0, ddof=1), atol=1e-6)


def test_a_frozen_batch_norm_keeps_all_it_has():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)
    norm = BatchNorm(CONFIG, frozen=True)
    variables = norm.init(jax.random.key(0), x)

    def loss(params, x):
        y, moved = norm.apply({**variables, "params": params}, x, (), mutable=["batch_stats"])
        return jnp.sin(y).sum(), (y, moved)

    (_, (y, moved)), (of_params, of_x) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)
    np.testing.assert_allclose(y, x, atol=1e-4)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_params)) and np.all(of_x != 0)
    assert all(map(np.array_equal, jax.tree.leaves(moved), jax.tree.leaves(variables["batch_stats"])))


@pytest.mark.parametrize("name", ["3 × 3", "halving", "stem", "uneven", "patches"])
def test_the_largest_of_each_window_and_its_gradient_are_those_of_accelerators(name):
    shape, _, window = WINDOWS[name]
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), shape))  # with many equals
    most = max_pool.xla_max_pool(x, window)
    np.testing.assert_array_equal(max_pool.cpu_max_pool(x, window), most)
    gradient = jax.random.normal(jax.random.key(1), most.shape)
    np.testing.assert_allclose(
        max_pool.cpu_max_pool_gradient(x, gradient, window),
        max_pool.xla_max_pool_gradient(x, gradient, window),
        atol=1e-6,
    )


def test_batch_norm_has_the_derivatives_of_its_formula():
    def formula(x, scale, bias):
        centred = x - x.mean(axis=(0, 1, 2), keepdims=True)
        var = (centred**2).mean(axis=(0, 1, 2), keepdims=True)
        return centred / jnp.sqrt(var + 1e-5) * scale[None, None, None] + bias[None, None, None]

    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (2, 5, 4, 3), (3,), (3,), (2, 5, 4, 3)
    *given, gradient = (jax.random.normal(key, shape) + 1 for key, shape in zip(keys, shapes, strict=True))
    y, expected = jax.vjp(formula, *given)
    found_y, found = jax.vjp(lambda *x: batch_normalized(*x, 1e-5, ())[0], *given)
    np.testing.assert_allclose(found_y, y, atol=1e-5)
    for one, other in zip(found(gradient), expected(gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
