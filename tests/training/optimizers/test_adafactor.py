"""Adafactor against optax's, stacks against lists of layers, and the axes of its state."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.layers.axes import axes_of, path_of
from models.t5 import T5Config, T5ForConditionalGeneration
from tests.training.test_checkpoints import template_of
from training.checkpoints import Checkpoints
from training.optimizers import Adafactor
from training.parallel import Parallel, logical_axes
from training.state import Update


def trees(seed: int, layers: int) -> dict:
    """Parameters of a stack: a large matrix, a small one, a vector."""
    random = np.random.default_rng(seed)
    shapes = dict(large=(layers, 160, 130), small=(layers, 160, 8), scale=(layers, 160))
    scales = 10.0 ** np.arange(layers)
    stack = {name: random.normal(size=shape) for name, shape in shapes.items()}
    stack = {name: x * scales.reshape(-1, *[1] * (x.ndim - 1)) for name, x in stack.items()}
    return jax.tree.map(jnp.float32, {"layers": stack, "table": random.normal(size=(140, 128))})


def taken(optimizer, params, gradients) -> list:
    """The parameters after each step."""
    state, found = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


def assert_close(found: dict, wanted: dict) -> None:
    """To rounding, at the scale of each array: parameters that pass zero have no relative accuracy."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * float(jnp.abs(b).max()))

    jax.tree.map(compare, found, wanted)


AXES = {
    f"layers/{path_of(path)}": ("layers", *["embed"] * (x.ndim - 1))
    for path, x in jax.tree_util.tree_leaves_with_path(trees(0, 3)["layers"])
}


def test_is_optax_adafactor_layer_by_layer():
    settings = Adafactor(learning_rate=0.05, constant_steps=2)
    params, gradients = trees(0, 3), [trees(seed, 3) for seed in range(1, 5)]
    theirs = optax.adafactor(settings.schedule(4), momentum=None)

    def layer(tree: dict, number: int) -> dict:
        return jax.tree.map(lambda x: x[number], tree["layers"])

    ours = taken(settings.build(4, axes=AXES), params, gradients)
    for number in range(3):
        expected = taken(theirs, layer(params, number), [layer(gradient, number) for gradient in gradients])
        for found, wanted in zip(ours, expected, strict=True):
            assert_close(layer(found, number), wanted)
    table = taken(theirs, params["table"], [gradient["table"] for gradient in gradients])
    assert_close(ours[-1]["table"], table[-1])


def test_keeps_rows_and_columns_of_large_matrices_alone():
    squares = Adafactor().build(10, axes=AXES).init(trees(0, 3))[0]
    assert squares.rows["layers"]["large"].shape == (3, 160) and squares.columns["layers"]["large"].shape == (3, 130)
    assert squares.whole["layers"]["large"].size == 1 and squares.whole["layers"]["small"].shape == (3, 160, 8)
    assert squares.rows["table"].shape == (140,) and squares.columns["table"].shape == (128,)


def test_a_checkpoint_holds_its_state(tmp_path):
    optimizer, params = Adafactor().build(10, axes=AXES), trees(0, 3)
    state = Update(optimizer).first({"params": params})
    _, moved = optimizer.update(trees(1, 3), state.opt_state, params)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state.replace(step=jnp.int32(1), opt_state=moved))
    checkpoints.wait()
    restored, _ = checkpoints.restore(template_of(state))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, moved)


def test_the_rate_is_that_of_t5():
    steps = np.arange(1, 40_001)
    np.testing.assert_allclose(Adafactor().rates(40_000), 1 / np.sqrt(np.maximum(steps, 10_000)), rtol=1e-6)


@pytest.mark.parametrize("parallel", [Parallel(kind="jit", fsdp=2, tensor=2)], ids=["fsdp 2 × tensor 2"])
def test_state_is_spread_as_its_parameters(parallel):
    config = T5Config(vocab_size=256, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)
    model = T5ForConditionalGeneration(config)

    def boxed():
        optimizer = Adafactor().build(9, axes=axes_of(model.boxed_shapes()["params"]))
        return Update(optimizer).first(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32)))

    spread = parallel.spread(logical_axes(jax.eval_shape(boxed)), jax.devices()[:4])
    state = spread.put(jax.device_get(nn.unbox(boxed())))
    rows = state.opt_state[0].rows["encoder"]["layers"]["up"]["kernel"]
    kernel = state.params["encoder"]["layers"]["up"]["kernel"]
    assert rows.shape == kernel.shape[:-1]
    assert rows.sharding.spec == type(kernel.sharding.spec)(*tuple(kernel.sharding.spec)[: rows.ndim])
