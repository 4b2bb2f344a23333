"""The kernel of attention, in Pallas' interpret mode, against the reference: values, gradients, and what dropout drops."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.kernels import pallas_blocks
from models.kernels.attention import attend
from models.kernels.fused_attention import fused_attend, refusal
from models.kernels.masks import AttentionMask
from models.layers.dropout import dropout_bits, threshold
from training.planning.topologies import absent_devices, parse_topology

BATCH = 2
CASES = {
    "plain": dict(),
    "padding, one text all padding": dict(attended=True),
    "causal, some see nothing": dict(attended=True, causal=True, queries=40, keys=40),
    "causal in blocks, some see nothing": dict(attended=True, causal=True, queries=300, keys=300, heads=2),
    "packed, prefixes": dict(segments=True, causal=True, prefix=True),
    "cross-attention, dropout": dict(attended=True, queries=5, keys=150, rate=0.3),
    "shared keys, dropout": dict(heads=4, key_value_heads=2, causal=True, rate=0.3),
    "one head of keys": dict(heads=4, key_value_heads=1, queries=20, keys=300, causal=True),
    "shared biases": dict(biases=1, rate=0.2, attended=True),
    "shared biases in blocks": dict(biases=1, causal=True, queries=300, keys=300, heads=2, rate=0.2),
    "biases": dict(biases=BATCH, causal=True, heads=3, key_value_heads=3),
    "heads that fill no lanes": dict(heads=3, dim=64, rate=0.2),
    "wide heads": dict(heads=2, dim=128, causal=True),
    "heads across lanes": dict(heads=4, dim=96, rate=0.2, attended=True),
    "packed, all": dict(
        heads=4, key_value_heads=2, segments=True, attended=True, causal=True, prefix=True, biases=1, rate=0.3
    ),
}
IN_MAKE_TEST = ("causal, some see nothing", "packed, all", "cross-attention, dropout")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 128 queries and chunks of 128 keys, that small arrays have several of."""
    monkeypatch.setattr(pallas_blocks.Call, "ROWS", 2**16)
    monkeypatch.setattr(pallas_blocks.Call, "LONGEST_CHUNK", 128)


def case(queries=24, keys=24, heads=2, key_value_heads=None, dim=32, dtype="float32", rate=0.0, causal=False, **parts):
    """Arrays of a call, its mask, its settings, and the gradient of its result."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), dtype)

    def segments(length):
        return jnp.asarray(np.sort(random.integers(0, 3, (BATCH, length)), axis=1), jnp.int32)

    shared = BATCH, key_value_heads or heads, keys, dim
    biases = parts.get("biases")
    arrays = (
        normal(BATCH, heads, queries, dim),
        normal(*shared),
        normal(*shared),
        None if biases is None else jnp.asarray(random.normal(size=(biases, heads, queries, keys)), jnp.float32),
    )
    attended = prefix = None
    if parts.get("attended"):
        attended = jnp.asarray(random.random((BATCH, keys)) < 0.6, jnp.int32).at[0, : keys // 2].set(0)
        attended = attended.at[1].set(0) if not causal else attended
    if parts.get("prefix"):
        prefix = jnp.asarray(random.random((BATCH, keys)) < 0.3, jnp.int32)
    ids = (segments(queries), segments(keys)) if parts.get("segments") else None
    dropout_keys = jax.random.split(jax.random.key(1), BATCH)
    settings = dict(scale=0.3, dropout_rate=rate, dropout_keys=dropout_keys)
    return arrays, AttentionMask(attended, ids, prefix, causal=causal), settings, normal(BATCH, queries, heads * dim)


def both(given, arrays_as="float32"):
    """What the reference, in `arrays_as`, and the kernel give, and their gradients."""
    arrays, mask, settings, gradient = case(**given)
    assert refusal(*arrays) is None

    def reference(query, key, value, bias):
        whole = mask.array(query.shape[2], key.shape[2])
        return attend(query, key, value, whole, position_bias=bias, **settings)[0]

    def kernel(query, key, value, bias):
        return fused_attend(query, key, value, mask, position_bias=bias, **settings)

    def derived(function, arrays, gradient):
        value, back = jax.vjp(function, *arrays)
        return jax.tree.leaves((value, back(gradient)))

    wide = jax.tree.map(lambda x: x.astype(arrays_as), (arrays, gradient))
    return derived(reference, *wide), derived(kernel, arrays, gradient)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_MAKE_TEST else pytest.mark.slow) for name in CASES]
)
def test_the_kernel_is_the_reference_in_value_and_gradient(name):
    for expected, found in zip(*both(CASES[name]), strict=True):
        assert np.isfinite(found).all() and float(jnp.abs(expected).max()) > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(jnp.abs(expected).max())))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "packed, all" else pytest.mark.slow) for name in CASES]
)
def test_in_bfloat16_it_is_within_two_steps_of_the_reference_in_float32(name):
    """Steps of the largest number of each array: 2^-8 of it."""
    for expected, found in zip(*both(dict(CASES[name], dtype="bfloat16")), strict=True):
        np.testing.assert_allclose(np.float32(found), expected, atol=2 * 2**-8 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(("heads", "key_value_heads", "queries"), [(4, 2, 24), (3, 3, 200)])
def test_it_drops_the_same_weights_as_everywhere(heads, key_value_heads, queries):
    """All scores being equal and the values an identity, each feature of the result is the weight of one key."""
    keys, rate = 32, 0.4
    dropout_keys = jax.random.split(jax.random.key(2), BATCH)
    zeros = jnp.zeros((BATCH, heads, queries, keys)), jnp.zeros((BATCH, key_value_heads, keys, keys))
    value = jnp.broadcast_to(jnp.eye(keys), zeros[1].shape)
    attended = fused_attend(*zeros, value, AttentionMask(), scale=1.0, dropout_rate=rate, dropout_keys=dropout_keys)
    kept = attended.reshape(BATCH, queries, heads, keys).swapaxes(1, 2) > 0
    bits = dropout_bits(dropout_keys, (heads, queries, keys))
    np.testing.assert_array_equal(kept, bits < jnp.uint32(threshold(rate)))
    assert 0.5 < kept.mean() < 0.7


def test_forward_mode_and_second_derivatives_are_those_of_the_reference():
    arrays, mask, settings, _ = case(**CASES["packed, all"])
    whole = mask.array(24, 24)

    def along(function):
        return jax.jvp(lambda query: (function(query) ** 2).sum(), arrays[:1], arrays[:1])

    expected = along(lambda q: attend(q, *arrays[1:3], whole, position_bias=arrays[3], **settings)[0])
    found = along(lambda q: fused_attend(q, *arrays[1:3], mask, position_bias=arrays[3], **settings))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_backward_pass_keeps_nothing_as_large_as_the_scores():
    arrays, mask, settings, _ = case(queries=256, keys=384, causal=True, rate=0.1)
    _, back = jax.vjp(lambda *arrays: fused_attend(*arrays, mask, **settings), *arrays[:3])
    assert max(x.size for x in jax.tree.leaves(back)) <= BATCH * 384 * 2 * 32


@pytest.mark.slow
@pytest.mark.parametrize("given", [dict(biases=1), dict(biases=BATCH, attended=True, causal=True)], ids=str)
def test_a_mesh_cuts_examples_and_heads_and_changes_nothing(given):
    import flax.linen as nn

    from training.parallel import RULES

    arrays, mask, settings, gradient = case(heads=4, key_value_heads=2, rate=0.3, **given)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 1, 2), ("data", "fsdp", "tensor"))

    def derivatives(arrays, gradient, keys):
        def of(*arrays):
            *arrays, bias = arrays
            return fused_attend(*arrays, mask, position_bias=bias, **dict(settings, dropout_keys=keys))

        value, back = jax.vjp(of, *arrays)
        return value, back(gradient)

    def on_mesh(*given):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(RULES):
            return derivatives(*given)

    given = arrays, gradient, settings["dropout_keys"]
    cut = jax.device_put(given, NamedSharding(mesh, PartitionSpec()))
    program = jax.jit(on_mesh).lower(*cut)
    assert "shard_map" in program.as_text() or "sdy.manual_computation" in program.as_text()
    for one, other in zip(jax.tree.leaves(derivatives(*given)), jax.tree.leaves(jax.jit(on_mesh)(*cut)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (dict(dim=16), "heads of 16 and 16 features"),
        (dict(dim=160), "heads of 160"),
        (dict(dim=36), "a multiple of 8"),
        (dict(dtype="float16"), "in float16, float16 and float16"),
        (dict(heads=32, key_value_heads=1), "32 heads of queries in a block"),
        (dict(queries=2048, keys=2048, biases=1), "MiB of keys, values, biases and scores"),
        (dict(queries=128, keys=40_000, dim=128), "MiB of keys"),
    ],
    ids=str,
)
def test_what_is_outside_its_limits_is_said(changed, sentence, monkeypatch):
    monkeypatch.undo()
    given = dict(queries=24, keys=24, heads=2, key_value_heads=None, dim=32, dtype="float32", biases=None) | changed
    heads, dim, dtype = given["heads"], given["dim"], given["dtype"]
    query = jax.ShapeDtypeStruct((BATCH, heads, given["queries"], dim), jnp.dtype(dtype))
    key = jax.ShapeDtypeStruct((BATCH, given["key_value_heads"] or heads, given["keys"], dim), jnp.dtype(dtype))
    bias = None
    if given["biases"]:
        bias = jax.ShapeDtypeStruct((1, heads, given["queries"], given["keys"]), jnp.float32)
    assert sentence in refusal(query, key, key, bias)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu (the tpu extra)")
@pytest.mark.parametrize("topology", ["v5e:1x1", "v5p:2x2x1", "v6e:1x1"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_compiled_for_tpus(name, topology, monkeypatch):
    monkeypatch.undo()
    arrays, mask, settings, gradient = case(**dict(CASES[name], dtype="bfloat16"))
    sharding = NamedSharding(Mesh(np.array(absent_devices(parse_topology(topology))[:1]), ("x",)), PartitionSpec())

    parts, whole = jax.tree.flatten(mask)

    def derivatives(arrays, parts, words, gradient):
        mask = jax.tree.unflatten(whole, parts)
        keys = jax.random.wrap_key_data(words, impl="threefry2x32")
        *arrays, bias = arrays
        given = dict(settings, dropout_keys=keys)
        _, back = jax.vjp(
            lambda *arrays: fused_attend(*arrays[:3], mask, position_bias=arrays[3], **given), *arrays, bias
        )
        return back(gradient)

    given = arrays, parts, jax.random.key_data(settings["dropout_keys"]), gradient
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), given)
    program = jax.jit(derivatives).lower(*shapes).compile().as_text()
    assert program.count('custom_call_target="tpu_custom_call"') == 1  # the result itself is not asked for
