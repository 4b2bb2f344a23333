"""The train step and the evaluation step: pure functions of state and batch, written once for every way to spread them.

A batch is what the data source gives, shaped `[micro_batches, batch, ...]`; the objective corrupts it on the device. What is
minimised is a function of sums over the examples of the global batch. The step differentiates the sums of a part of the
batch and that function at the totals of all parts: so the gradients of shards and micro-batches simply add up.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree, UInt32

from models.model import Model
from objectives import Objective
from objectives.checks import STEP, loss_weights
from objectives.losses import IGNORED
from objectives.objective import Example, Losses, Sums, Targets
from training.state import TrainState, Update, joined, variables_of

Metrics = dict[str, Any]


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
    for number, name in enumerate(sorted(name for name in batch if name != STEP)):
        x = batch[name]
        x = x.astype(jnp.uint32) if x.dtype.itemsize != 4 else jax.lax.bitcast_convert_type(x, jnp.uint32)
        x = x.reshape(x.shape[0], -1)
        place = jnp.arange(x.shape[1], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.uint32(number)
        total += mix(mix(x) + place[None]).sum(axis=1, dtype=jnp.uint32)
    return mix(total).sum(dtype=jnp.uint32)


def corrupted(
    objective: Objective, seed: int, batch: Example, step: int | Array = 0
) -> tuple[Example, Key[Array, " batch"]]:
    """The batch as the model is to see it, and the keys of its dropout.

    Args:
        step: the steps done before, which each example then holds under `STEP`.
    """
    corruption, dropout = example_keys(seed, batch["index"])
    steps = jnp.full(batch["index"].shape, step, jnp.int32)
    return jax.vmap(objective.corrupt)(corruption, {**batch, STEP: steps}), dropout


def forward(
    model: Model,
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
    inputs = {name: batch[name] for name in model.inputs if name in batch}
    return model.apply({**variables, **(frozen or {})}, **inputs, dropout_keys=dropout_keys, **settings)


def forward_in_training(
    model: Model,
    objective: Objective,
    variables: dict[str, Any],
    batch: Example,
    dropout_keys: Key[Array, " batch"],
    frozen: PyTree,
    axis: str | None,
) -> tuple[Any, PyTree]:
    """The outputs as the objective takes them, batch norms using the statistics of the whole batch, and their running statistics
    after it."""
    settings = {"unprojected": True} if objective.unprojected and "unprojected" in model.settings else {}
    if "batch_stats" not in variables:
        outputs, changed = forward(model, variables, batch, dropout_keys, frozen, **settings), {}
    else:
        settings |= dict(batch_axes=(axis,) if axis else (), mutable=["batch_stats"])
        outputs, changed = forward(model, variables, batch, dropout_keys, frozen, **settings)
    return objective.judged(outputs, batch), changed.get("batch_stats")


def train_step(
    state: TrainState,
    batch: Example,
    frozen: PyTree = None,
    *,
    model: Model,
    objective: Objective,
    update: Update,
    seed: int,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step on a batch `[micro_batches, batch, ...]`; with `axis`, on this device's part of it.

    Args:
        frozen: what the model needs beside the state's parameters and no step changes (a teacher): no gradient is computed
            for it, the optimizer does not know it, and no checkpoint holds it.
        update: which parameters are trained, and how.

    Returns:
        The next state, and {name: (sum, weight)} over the global batch for each loss and metric, with `gradient_norm`
        and the `digest` of the examples.
    """
    alone = axis is None or jax.lax.axis_size(axis) == 1  # of a single device the sum would be one more copy
    total = (lambda tree: tree) if alone else (lambda tree: jax.lax.psum(tree, axis))
    corrupt = jax.vmap(lambda part: corrupted(objective, seed, part, state.step))
    seen, dropout_keys = corrupt(batch)
    trained, others = update.split(state.params)

    def sums(trained: PyTree, part: Example, keys) -> tuple[Sums, tuple[Losses, PyTree]]:
        variables = variables_of(joined(trained, others), state.batch_stats)
        outputs, batch_stats = forward_in_training(model, objective, variables, part, keys, frozen, axis)
        return objective.sums(outputs, part), (objective.metrics(outputs, part), batch_stats)

    def gradients_of(part, totals: Sums | None) -> tuple[tuple[PyTree, Sums, Losses], PyTree]:
        """Of a micro-batch, where `totals` are those of the global batch; `None` where it is this part's on all devices."""
        amounts, pull_back, (metrics, batch_stats) = jax.vjp(lambda x: sums(x, *part), trained, has_aux=True)
        slopes = jax.grad(objective_value, allow_int=True)(total(amounts) if totals is None else totals)
        return (*pull_back(slopes), amounts, metrics), batch_stats

    def objective_value(totals: Sums) -> Array:
        return sum(objective.losses(totals).values())

    if batch["index"].shape[0] == 1:
        summed, batch_stats = gradients_of(jax.tree.map(lambda x: x[0], (seen, dropout_keys)), None)
    else:
        sums_of = lambda part: (sums(trained, *part)[0], ())  # noqa: E731
        totals = total(_totals(model, objective, state.variables, (seen, dropout_keys), frozen, sums_of))
        summed, all_stats = _accumulate(lambda part: gradients_of(part, totals), (seen, dropout_keys))
        batch_stats = jax.tree.map(lambda x: x[-1], all_stats)
    gradients, totals, metrics = total(summed)
    after = update(state, gradients, batch_stats)
    metrics = {
        **_as_pairs(objective, totals),
        **metrics,
        "gradient_norm": (optax.global_norm(gradients), jnp.ones(())),
        "digest": total(jax.vmap(digest)(seen).sum(dtype=jnp.uint32)),
    }
    return after, metrics


def _accumulate(function: Callable[[PyTree], tuple[PyTree, PyTree]], parts: PyTree) -> tuple[PyTree, PyTree]:
    """What `function` gives of each part, one after another: the first of the two summed, the second stacked."""
    shapes, _ = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))

    def add(carry: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        summed, stacked = function(part)
        return jax.tree.map(jnp.add, carry, summed), stacked

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), parts)


def _totals(
    model: Model,
    objective: Objective,
    variables: dict[str, Any],
    parts: tuple[Example, Key[Array, "micro_batches batch"]],
    frozen: PyTree,
    sums: Callable[[PyTree], tuple[Sums, tuple]],
) -> Sums:
    """The sums over all micro-batches, before any is differentiated.

    Where losses are ratios, their derivatives need the weights alone, which no model runs for: the amounts are left 0.
    """
    if not objective.ratios:
        return _accumulate(sums, parts)[0]

    def weights(part: Example) -> dict[str, Array]:
        outputs = jax.eval_shape(lambda: forward(model, variables, part, frozen=frozen))
        return loss_weights(objective, outputs, part)

    return {name: (jnp.zeros(()), weight.sum(axis=0)) for name, weight in jax.vmap(weights)(parts[0]).items()}


def _as_pairs(objective: Objective, totals: Sums) -> Losses:
    """The losses as `(sum, weight)`: as they are, or their values with a weight of 1 where they are no ratios."""
    if objective.ratios:
        return totals
    return {name: (value, jnp.ones(())) for name, value in objective.losses(totals).items()}


def mean(amount: float, weight: float) -> float:
    """`ratio` on the host."""
    return amount / weight if weight != 0 else 0.0


def targets_step(
    variables: dict[str, Any], batch: Example, *, model: Model, objective: Objective, seed: int, axis: str | None = None
) -> dict[str, Targets]:
    """What is right on a batch `[1, batch, ...]`, the labels counted: `[classes]`, of each how many are asked for."""
    seen, _ = corrupted(objective, seed, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch))
    answers = objective.targets(forward(model, variables, seen), seen)

    def count(right: Targets) -> Targets:
        labels = jnp.where(right.labels == IGNORED, right.classes, right.labels).reshape(-1)
        counts = jnp.bincount(labels, length=right.classes + 1)[:-1]
        return right.replace(labels=jax.lax.psum(counts, axis) if axis else counts)

    return {name: count(right) for name, right in answers.items()}


def host_values(metrics: Metrics) -> dict[str, float | int]:
    """Host side, {name: value}: of each loss and metric its sum over its weight, and as it is what has none (`digest`)."""
    metrics = jax.device_get(metrics)
    return {
        name: mean(float(value[0]), float(value[1])) if isinstance(value, tuple) else int(value)
        for name, value in metrics.items()
    }


Step = Callable[[TrainState, Example], tuple[TrainState, Metrics]]
