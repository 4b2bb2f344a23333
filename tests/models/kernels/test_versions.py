"""All versions of every kernel agree: the reference as JAX differentiates it, the one for CPUs and the one for accelerators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels import (
    activation,
    attention,
    batch_norm,
    convolution,
    cross_entropy,
    deformable_attention,
    linear,
    max_pool,
    norm,
)
from models.layers.activations import ACTIVATIONS
from tests.models.kernels.test_convolution import WINDOWS
from tests.models.kernels.test_deformable_attention import SHAPES, arguments

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")


def normal(*shapes):
    random = np.random.default_rng(0)
    return [None if shape is None else jnp.asarray(random.normal(size=shape), FLOAT32) for shape in shapes]


def attended(kv_heads=4, masked=False, biases=None, rate=0.0, length=7, keys=9):
    query, key, value, bias = normal(
        (3, 4, length, 8), (3, kv_heads, keys, 8), (3, kv_heads, keys, 6), biases and (biases, 4, length, keys)
    )
    mask = None
    if masked:
        mask = jnp.asarray(np.random.default_rng(1).random((3, 1, length, keys)) < 0.6)
        mask = mask.at[0, 0, 0].set(False)  # a query that may look nowhere
    arguments = query, key, value, mask, bias, jax.random.split(jax.random.key(0), 3) if rate else None
    return attention._attend, arguments, 3, dict(dropout_rate=rate)


def windowed(kernel, name):
    shape, features, window = WINDOWS[name]
    arrays = normal(shape, (*window.size, shape[-1] // window.groups, features))
    return kernel, arrays if kernel is convolution._convolve else arrays[:1], 1, dict(window=window)


def formulas(kernel, count, *names):
    return {name: (kernel, normal(*[(3, 5)] * count), count, dict(formula=ACTIVATIONS[name])) for name in names}


CASES = {
    "product": (linear._matmul, normal((2, 5, 6), (6, 4)), 1, {}),
    "product, wide": (linear._matmul, normal((7, 48), (48, 5)), 1, {}),
    "product, three at once": (linear._matmul, normal((2, 5, 6), (6, 3, 4)), 1, {}),
    "bias": (linear._add_bias, normal((2, 5, 4), (4,)), 1, {}),
    "bias, two axes": (linear._add_bias, normal((2, 5, 3, 4), (3, 4)), 1, {}),
    **formulas(activation._activate, 1, "gelu", "relu", "silu", "tanh"),
    **{f"{name}, gated": case for name, case in formulas(activation._gated, 2, "gelu_new", "silu", "relu").items()},
    "layer norm": (norm._normalized, normal((2, 5, 8), (8,), (8,)), 1, dict(epsilon=1e-5)),
    "layer norm of rows": (norm._normalized, normal((4, 33), (33,), (33,)), 1, dict(epsilon=1e-12)),
    "root mean square norm": (norm._normalized, normal((2, 5, 8), (8,), None), 1, dict(epsilon=1e-6)),
    "batch norm": (batch_norm._batch_normalized, normal((4, 3, 5, 6), (6,), (6,)), 1, dict(epsilon=1e-5, batch_axes=())),
    "batch norm of rows": (batch_norm._batch_normalized, normal((16, 5), (5,), (5,)), 1, dict(epsilon=1e-5, batch_axes=())),
    "attention": attended(),
    "attention, one query": attended(length=1, keys=5, masked=True),
    "attention, masked": attended(masked=True, biases=1),
    "attention, shared keys": attended(kv_heads=2, masked=True, rate=0.3),
    "attention, all": attended(kv_heads=1, masked=True, biases=3, rate=0.3),
    **{f"convolution, {name}": windowed(convolution._convolve, name) for name in WINDOWS},
    **{f"largest, {name}": windowed(max_pool._max_pool, name) for name in ("3 × 3", "halving", "stem", "uneven", "patches")},
    "deformable attention": (deformable_attention._attend, list(map(jnp.asarray, arguments())), 1, dict(shapes=SHAPES)),
    "cross-entropy": (cross_entropy._likelihood, [*normal((4, 5, 7)), jnp.arange(20).reshape(4, 5) % 7], 1, dict(smoothing=0.0)),
    "cross-entropy, smoothed": (cross_entropy._likelihood, [*normal((6, 9)), jnp.arange(6)], 1, dict(smoothing=0.1)),
}  # fmt: skip
"""Kernel, arguments, how many of the first are activations (in the compute dtype; what follows are parameters), settings."""


def three(function, arguments):
    """Value, gradients by reverse mode, and the derivative along a direction by forward mode."""
    moved = [n for n, x in enumerate(arguments) if x is not None and jnp.issubdtype(x.dtype, jnp.floating)]
    random = np.random.default_rng(2)

    def of_moved(*values):
        given = dict(zip(moved, values, strict=True))
        return function(*(given.get(n, x) for n, x in enumerate(arguments)))

    def like(x):
        return jnp.asarray(random.normal(size=x.shape), x.dtype)

    @jax.jit
    def derivatives(*values):
        outputs, pull = jax.vjp(of_moved, *values)
        return outputs, pull(jax.tree.map(like, outputs)), jax.jvp(of_moved, values, tuple(map(like, values)))[1]

    return derivatives(*(arguments[n] for n in moved))


def case(name, dtype):
    """Kernel, arguments and settings, computed in `dtype`."""
    kernel, arguments, activations, settings = CASES[name]
    arguments = [x.astype(dtype) if n < activations else x for n, x in enumerate(arguments)]
    if kernel is attention._attend and arguments[4] is not None:
        arguments[4] = arguments[4].astype(dtype)
    return kernel, arguments, dict(settings, dtype=dtype) if kernel is norm._normalized else settings


@functools.cache
def expected(name, dtype):
    """What the reference gives, computed in float32 from arguments rounded to `dtype`."""
    kernel, _, settings = case(name, FLOAT32)
    rounded = (x.astype(FLOAT32) if x is not None and x.dtype == BFLOAT16 else x for x in case(name, dtype)[1])
    return three(functools.partial(kernel.__wrapped__, **settings), list(rounded))


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("platform", ["cpu", "accelerator"])
@pytest.mark.parametrize("name", CASES)
def test_every_version_agrees_with_the_reference_in_value_and_gradient(name, platform, dtype, monkeypatch):
    def choose(*arrays, default, cpu):
        return cpu(*arrays) if platform == "cpu" else default(*arrays)

    if name == "product, three at once" and platform == "accelerator" and dtype == BFLOAT16:
        pytest.skip("XLA:CPU has no such product, BF16 x BF16 = F32 with several axes of outputs")
    kernel, arguments, settings = case(name, dtype)
    wanted = expected(name, dtype)
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    found = three(functools.partial(kernel, **settings), arguments)
    gradients = [x.dtype for x in arguments if x is not None and jnp.issubdtype(x.dtype, jnp.floating)]
    assert [x.dtype for x in found[1]] == gradients
    exact = 2e-5 if dtype == FLOAT32 else 0.03
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.float32(one), other, atol=exact * max(float(jnp.abs(other).max()), 1.0))
