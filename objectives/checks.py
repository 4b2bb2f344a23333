"""Whether an objective fits its data and its model, by the names by which they meet."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

from objectives.objective import Example, Objective, ObjectiveError

STEP = "step"
"""What the train step adds to an example: the steps done before (int32), for schedules."""


def check_reads(objective: Objective, example: Iterable[str], data: str) -> None:
    """Raise `ObjectiveError` where `data`, whose examples have these names, lacks what `objective` reads."""
    for wanted in objective.reads:
        if wanted not in example and wanted != STEP:
            raise ObjectiveError(
                f"{objective!r} reads {wanted!r}, which {data} does not give; it gives {', '.join(sorted(example))}"
            )


def check_takes(objective: Objective, inputs: Iterable[str], causal: bool, model: str) -> None:
    """Raise `ObjectiveError` where `model`, which takes `inputs`, is of a kind that `objective` cannot be asked of.

    Args:
        causal: whether an output of the model depends on nothing behind its place.
    """
    for wanted in objective.takes:
        if wanted not in inputs:
            raise ObjectiveError(
                f"{objective!r} feeds {wanted!r}, which {model} does not take; it takes {', '.join(inputs)}"
            )
    if objective.causal and not causal:
        raise ObjectiveError(f"{objective!r} asks for what comes next, which {model} sees: it looks ahead")


def check_asks(objective: Objective, outputs: Iterable[str], model: str) -> None:
    """Raise `ObjectiveError` where `model`, which returns `outputs`, lacks what `objective` asks for."""
    for names in objective.asks:
        if not set(outputs) & set(names):
            raise ObjectiveError(
                f"{objective!r} asks for {' or '.join(names)}, which {model} does not return;"
                f" it returns {', '.join(sorted(outputs))}"
            )


def loss_weights(objective: Objective, outputs: PyTree, batch: Example) -> dict[str, Array]:
    """The weight of each loss on `batch`, without the model's outputs.

    Args:
        outputs: their shapes and dtypes.

    Raises:
        ObjectiveError: a weight depends on them.
    """
    leaves, tree = jax.tree.flatten(outputs)

    def weights(leaves: list[Array], batch: Example) -> dict[str, Array]:
        losses = objective.loss(tree.unflatten(leaves), batch)
        return {name: weight for name, (_, weight) in losses.items()}

    traced, shapes = jax.make_jaxpr(weights, return_shape=True)(leaves, batch)
    needed, used = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    if any(used[: len(leaves)]):
        raise ObjectiveError(
            f"{objective!r} has a loss whose weight depends on the model's outputs, which `loss` must not: define `sums`"
            " and `losses`"
        )
    given = [value for value, wanted in zip(jax.tree.leaves(batch), used[len(leaves) :], strict=True) if wanted]
    values = map(jnp.asarray, jax.core.eval_jaxpr(needed, traced.consts, *given))
    return jax.tree.unflatten(jax.tree.structure(shapes), values)
