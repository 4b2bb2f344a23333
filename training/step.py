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
from objectives.objective import IGNORED, Answers, Example, Losses

Metrics = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and so all that a checkpoint must hold.

    Attributes:
        step: int32 scalar, the steps done. Unchecked, like the others: trees of shapes and shardings look alike.
        batch_stats: running statistics of batch norms; `None` where the model has none.
        average: of the variables over the steps, as heavy as `train_step`'s `average_decay` says; `None` without.
    """

    step: Any
    params: Any
    opt_state: Any
    batch_stats: Any = None
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the model is applied with."""
        return variables_of(self.params, self.batch_stats)


def variables_of(params: PyTree, batch_stats: PyTree) -> dict[str, Any]:
    return {"params": params} if batch_stats is None else {"params": params, "batch_stats": batch_stats}


def create_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, averaged: bool = False
) -> TrainState:
    """Step 0; the average, where there is to be one, begins as the variables are."""
    params, batch_stats = variables["params"], variables.get("batch_stats")
    average = variables_of(params, batch_stats) if averaged else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), batch_stats, average)


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
    variables: dict[str, Any],
    batch: Example,
    dropout_keys: Key[Array, " batch"] | None = None,
    frozen: PyTree = None,
    **settings: Any,
):
    """The model's outputs on the arrays of `batch` that it takes.

    Args:
        frozen: further collections of variables, which no step changes.
        settings: of `apply`.
    """
    inputs = {name: batch[name] for name in model_inputs(model) if name in batch}
    return model.apply({**variables, **(frozen or {})}, **inputs, dropout_keys=dropout_keys, **settings)


def forward_in_training(
    model: nn.Module,
    variables: dict[str, Any],
    batch: Example,
    dropout_keys: Key[Array, " batch"],
    frozen: PyTree,
    axis: str | None,
) -> tuple[Any, PyTree]:
    """The outputs, batch norms using the statistics of the whole batch, and their running statistics after it."""
    if "batch_stats" not in variables:
        return forward(model, variables, batch, dropout_keys, frozen), None
    axes = (axis,) if axis else ()
    outputs, changed = forward(model, variables, batch, dropout_keys, frozen, batch_axes=axes, mutable=["batch_stats"])
    return outputs, changed["batch_stats"]


def loss_weights(
    model: nn.Module, objective: Objective, variables: dict[str, Any], batch: Example, frozen: PyTree = None
) -> dict[str, Array]:
    """The weight of each loss on `batch`. No model runs: weights depend on the batch alone, by contract."""
    shapes = jax.eval_shape(lambda: forward(model, variables, batch, frozen=frozen))
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
    average_decay: float | None = None,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step on a batch `[micro_batches, batch, ...]`; with `axis`, on this device's share of it.

    Args:
        frozen: what the model needs beside the state's parameters and no step changes (a teacher): no gradient is computed
            for it, the optimizer does not know it, and no checkpoint holds it.
        average_decay: share of the old in the state's average of the variables, where it has one.

    Returns:
        The next state, and {name: (sum, weight)} over the global batch for each loss and metric, with `gradient_norm`
        and the `digest` of the examples.
    """
    alone = axis is None or jax.lax.axis_size(axis) == 1  # of a single device the sum would be one more copy
    total = (lambda tree: tree) if alone else (lambda tree: jax.lax.psum(tree, axis))
    micro_batches = batch["index"].shape[0]
    corrupt = jax.vmap(lambda part: corrupted(objective, seed, part))
    seen, dropout_keys = corrupt(batch)
    weights = jax.vmap(lambda part: loss_weights(model, objective, state.variables, part, frozen))(seen)
    weights = total(jax.tree.map(lambda weight: weight.sum(axis=0), weights))

    def loss(params: PyTree, part: Example, keys) -> tuple[Array, tuple[Losses, PyTree]]:
        variables = variables_of(params, state.batch_stats)
        outputs, batch_stats = forward_in_training(model, variables, part, keys, frozen, axis)
        losses = objective.loss(outputs, part)
        value = sum(ratio(amount, weights[name]) for name, (amount, _) in losses.items())
        return value, ({**losses, **objective.metrics(outputs, part)}, batch_stats)

    def of_part(part) -> tuple[tuple[PyTree, Losses], PyTree]:
        gradients, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.params, *part)
        return (gradients, metrics), batch_stats

    def accumulate(carry, part):
        found, batch_stats = of_part(part)
        return jax.tree.map(jnp.add, carry, found), batch_stats

    first = jax.tree.map(lambda x: x[0], (seen, dropout_keys))
    if micro_batches == 1:
        found, batch_stats = of_part(first)
    else:
        shapes, _ = jax.eval_shape(of_part, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        found, all_stats = jax.lax.scan(accumulate, zeros, (seen, dropout_keys))
        batch_stats = jax.tree.map(lambda x: x[-1], all_stats)
    gradients, metrics = total(found)

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        new = variables_of(params, batch_stats)
        average = jax.tree.map(lambda old, now: average_decay * old + (1 - average_decay) * now, average, new)
    metrics = {
        **metrics,
        "gradient_norm": (optax.global_norm(gradients), jnp.ones(())),
        "digest": total(jax.vmap(digest)(seen).sum(dtype=jnp.uint32)),
    }
    return TrainState(state.step + 1, params, opt_state, batch_stats, average), metrics


def ratio(amount: Any, weight: Any) -> Array:
    """`amount / weight`, and 0, with a gradient of 0, where nothing has been asked and the weight is 0."""
    asked = weight != 0
    return jnp.where(asked, amount / jnp.where(asked, weight, 1), 0.0)


def mean(amount: float, weight: float) -> float:
    """`ratio` on the host."""
    return amount / weight if weight != 0 else 0.0


def answers_step(
    variables: dict[str, Any],
    batch: Example,
    *,
    model: nn.Module,
    objective: Objective,
    seed: int,
    axis: str | None = None,
) -> dict[str, Answers]:
    """What is right on a batch `[1, batch, ...]`, the labels counted: `[classes]`, of each how many are asked for."""
    seen, _ = corrupted(objective, seed, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch))
    answers = objective.answers(forward(model, variables, seen), seen)

    def count(right: Answers) -> Answers:
        labels = jnp.where(right.labels == IGNORED, right.classes, right.labels).reshape(-1)
        counts = jnp.bincount(labels, length=right.classes + 1)[:-1]
        return right.replace(labels=jax.lax.psum(counts, axis) if axis else counts)

    return {name: count(right) for name, right in answers.items()}


def shares(metrics: Metrics) -> dict[str, float | int]:
    """Host side, {name: value}: of each loss and metric its sum over its weight, and as it is what has none (`digest`)."""
    metrics = jax.device_get(metrics)
    return {
        name: mean(float(value[0]), float(value[1])) if isinstance(value, tuple) else int(value)
        for name, value in metrics.items()
    }


Step = Callable[[TrainState, Example], tuple[TrainState, Metrics]]
