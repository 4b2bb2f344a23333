"""The train step and the evaluation step: pure functions of state and batch, written once for every way to spread them.

A batch is what the data source gives, shaped `[micro_batches, batch, ...]`; the objective corrupts it on the device.
Losses are (sum, weight) pairs. The weights of the whole global batch are added up *before* differentiating, so that what
is differentiated is Σ sumₙ / weightₙ with a constant weight, and gradients of shards and micro-batches simply add up.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree, UInt32

from models.outputs import model_inputs
from objectives import Objective
from objectives.objective import Example, Losses

Metrics = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and so all that a checkpoint must hold.

    Attributes:
        step: int32 scalar, the steps done. Unchecked, like the others: trees of shapes and shardings look alike.
    """

    step: Any
    params: Any
    opt_state: Any


def create_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def example_keys(seed: int, index: UInt32[Array, " batch"]) -> tuple[Key[Array, " batch"], Key[Array, " batch"]]:
    """Keys of the corruption and of the dropout of the examples with these places in the run: `fold_in(seed, i)`."""
    root = jax.random.key(seed, impl="threefry2x32")

    def keys(i):
        key = jax.random.fold_in(root, i)
        return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)

    return jax.vmap(keys)(index)


def digest(batch: Example) -> UInt32[Array, ""]:
    """A checksum of the examples in a batch, whatever their order and however they are spread."""

    def mix(x):
        x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
        x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
        return x ^ (x >> 16)

    total = jnp.zeros(batch["index"].shape, jnp.uint32)
    for number, name in enumerate(sorted(batch)):
        x = batch[name]
        x = x.astype(jnp.uint32) if x.dtype.itemsize != 4 else jax.lax.bitcast_convert_type(x, jnp.uint32)
        x = x.reshape(x.shape[0], -1)
        place = jnp.arange(x.shape[1], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.uint32(number)
        total += mix(mix(x) + place[None]).sum(axis=1, dtype=jnp.uint32)
    return mix(total).sum(dtype=jnp.uint32)


def corrupted(objective: Objective, seed: int, batch: Example) -> tuple[Example, Key[Array, " batch"]]:
    """The batch as the model is to see it, and the keys of its dropout."""
    corruption, dropout = example_keys(seed, batch["index"])
    return jax.vmap(objective.corrupt)(corruption, batch), dropout


def forward(
    model: nn.Module,
    params: PyTree,
    batch: Example,
    dropout_keys: Key[Array, " batch"] | None = None,
    frozen: PyTree = None,
):
    """The model's outputs on the arrays of `batch` that it takes.

    Args:
        frozen: further collections of variables, which no step changes.
    """
    inputs = {name: batch[name] for name in model_inputs(model) if name in batch}
    return model.apply({"params": params, **(frozen or {})}, **inputs, dropout_keys=dropout_keys)


def loss_weights(
    model: nn.Module, objective: Objective, params: PyTree, batch: Example, frozen: PyTree = None
) -> dict[str, Array]:
    """The weight of each loss on `batch`. No model runs: weights depend on the batch alone, by contract."""
    shapes = jax.eval_shape(lambda: forward(model, params, batch, frozen=frozen))
    outputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return {name: weight for name, (_, weight) in objective.loss(outputs, batch).items()}


def train_step(
    state: TrainState,
    batch: Example,
    frozen: PyTree = None,
    *,
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: int,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step on a batch `[micro_batches, batch, ...]`; with `axis`, on this device's share of it.

    Args:
        frozen: what the model needs beside the state's parameters and no step changes (a teacher): no gradient is computed
            for it, the optimizer does not know it, and no checkpoint holds it.

    Returns:
        The next state, and {name: (sum, weight)} over the global batch for each loss and metric, with `gradient_norm`
        and the `digest` of the examples.
    """
    total = (lambda tree: jax.lax.psum(tree, axis)) if axis else (lambda tree: tree)
    micro_batches = batch["index"].shape[0]
    corrupt = jax.vmap(lambda part: corrupted(objective, seed, part))
    seen, dropout_keys = corrupt(batch)
    weights = jax.vmap(lambda part: loss_weights(model, objective, state.params, part, frozen))(seen)
    weights = total(jax.tree.map(lambda weight: weight.sum(axis=0), weights))

    def loss(params: PyTree, part: Example, keys) -> tuple[Array, Losses]:
        outputs = forward(model, params, part, keys, frozen)
        losses = objective.loss(outputs, part)
        value = sum(amount / jnp.maximum(weights[name], 1.0) for name, (amount, _) in losses.items())
        return value, {**losses, **objective.metrics(outputs, part)}

    def accumulate(carry, part):
        gradients, metrics = jax.grad(loss, has_aux=True)(state.params, *part)
        return jax.tree.map(jnp.add, carry, (gradients, metrics)), None

    first = jax.tree.map(lambda x: x[0], (seen, dropout_keys))
    if micro_batches == 1:
        gradients, metrics = jax.grad(loss, has_aux=True)(state.params, *first)
    else:
        shapes = jax.eval_shape(jax.grad(loss, has_aux=True), state.params, *first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (gradients, metrics), _ = jax.lax.scan(accumulate, zeros, (seen, dropout_keys))
    gradients, metrics = total((gradients, metrics))

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        **metrics,
        "gradient_norm": (optax.global_norm(gradients), jnp.ones(())),
        "digest": total(jax.vmap(digest)(seen).sum(dtype=jnp.uint32)),
    }
    return TrainState(state.step + 1, params, opt_state), metrics


def evaluation_step(
    params: PyTree,
    batch: Example,
    frozen: PyTree = None,
    *,
    model: nn.Module,
    objective: Objective,
    seed: int,
    axis: str | None = None,
) -> Losses:
    """{name: (sum, weight)} of losses and metrics on a batch `[1, batch, ...]`, without dropout."""
    seen, _ = corrupted(objective, seed, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch))
    outputs = forward(model, params, seen, frozen=frozen)
    metrics = {**objective.loss(outputs, seen), **objective.metrics(outputs, seen)}
    return jax.lax.psum(metrics, axis) if axis else metrics


def shares(metrics: Metrics) -> dict[str, float | int]:
    """Host side: {name: sum / weight} of one step's metrics, the one place where a mean is taken."""
    metrics = jax.device_get(metrics)
    return {
        name: float(value[0]) / max(float(value[1]), 1.0) if isinstance(value, tuple) else int(value)
        for name, value in metrics.items()
    }


Step = Callable[[TrainState, Example], tuple[TrainState, Metrics]]
