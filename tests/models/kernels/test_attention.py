"""Attention against softmax written out, with its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels.attention import attend
from models.layers.dropout import dropout

BATCH, HEADS, QUERIES, KEYS = 3, 4, 7, 9


def case(kv_heads: int = HEADS, masked: bool = False, biases: int | None = None, rate: float = 0.0):
    """Arrays of a call; with `masked` the first query of each row may look nowhere; `biases` for how many examples."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    arrays = dict(
        query=normal(BATCH, HEADS, QUERIES, 8),
        key=normal(BATCH, kv_heads, KEYS, 8),
        value=normal(BATCH, kv_heads, KEYS, 6),
        position_bias=None if biases is None else normal(biases, HEADS, QUERIES, KEYS),
    )
    mask = jnp.asarray(random.random((BATCH, 1, QUERIES, KEYS)) < 0.5).at[:, :, 0].set(False) if masked else None
    settings = dict(mask=mask, dropout_rate=rate, dropout_keys=jax.random.split(jax.random.key(0), BATCH))
    cotangents = normal(BATCH, QUERIES, HEADS * 6), normal(BATCH, HEADS, QUERIES, KEYS)
    return arrays, settings, cotangents


def formula(arrays, *, mask, dropout_rate, dropout_keys, scale):
    query, key, value, bias = arrays["query"], arrays["key"], arrays["value"], arrays["position_bias"]
    key, value = (jnp.repeat(x, HEADS // x.shape[1], axis=1) for x in (key, value))
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) * scale
    scores = scores if bias is None else scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum("bhqk,bhkd->bqhd", dropout(probabilities, dropout_rate, dropout_keys), value)
    return mixed.reshape(*mixed.shape[:2], -1), probabilities


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "given",
    [
        dict(),
        dict(masked=True),
        dict(kv_heads=2, masked=True, rate=0.3),
        dict(kv_heads=1, biases=1),
        dict(biases=BATCH, masked=True, rate=0.3),
    ],
    ids=str,
)
def test_attention_and_its_derivatives_are_those_of_the_formula(given):
    arrays, settings, cotangents = case(**given)
    expected, back = jax.vjp(lambda arrays: formula(arrays, scale=0.3, **settings), arrays)
    found, ours_back = jax.vjp(lambda arrays: attend(**arrays, scale=0.3, **settings), arrays)
    for one, other in zip(
        jax.tree.leaves((found, ours_back(cotangents))), jax.tree.leaves((expected, back(cotangents))), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=5e-6)


def test_in_bfloat16_attention_is_as_exact_as_its_inputs():
    arrays, settings, _ = case(masked=True, biases=1)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), arrays)
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    found, _ = attend(**half, scale=0.25, **settings)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), formula(exact, scale=0.25, **settings)[0], atol=0.02)


def test_the_backward_pass_keeps_one_array_as_large_as_the_scores():
    arrays, settings, _ = case(rate=0.3)
    _, back = jax.vjp(lambda arrays: attend(**arrays, scale=0.3, **settings)[0], arrays)
    large = [x for x in jax.tree.leaves(back) if getattr(x, "shape", ()) == (BATCH, HEADS, QUERIES, KEYS)]
    assert [x.dtype for x in large] == [jnp.float32]


def test_accelerators_get_products_and_nothing_beside_them():
    arrays, settings, _ = case(masked=True)

    def program(platform):
        gradient = jax.jit(jax.grad(lambda arrays: attend(**arrays, scale=0.3, **settings)[0].sum()))
        return gradient.trace(arrays).lower(lowering_platforms=(platform,)).as_text()

    for extra in ("optimization_barrier", "stablehlo.minimum"):
        assert extra in program("cpu")
        assert extra not in program("tpu") and extra not in program("cuda")
