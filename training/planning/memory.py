"""Memory of a train step on one chip: what it holds by kind, from shapes and from what the compiler says."""

import dataclasses
import math
import re
from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import PyTree

from objectives import Objective
from training.hardware import GIB
from training.state import Update, joined, variables_of
from training.step import corrupted, forward_in_training

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one chip.

    Attributes:
        parameters, optimizer: of the state, as it is laid out, the parameters with those of a teacher, the optimizer with
            all else that a step carries on.
        activations: kept for the backward pass, as JAX asks for them; the compiler may keep less.
        temporaries: all that the step needs beside its arguments, activations and gradients included.
        total: needed at once.
        limit: what a program may have.
    """

    parameters: int
    optimizer: int
    activations: int
    temporaries: int
    total: int
    limit: int

    @property
    def fits(self) -> bool:
        return self.total <= self.limit

    def __str__(self) -> str:
        spare = (self.limit - self.total) / GIB
        return f"fits, {spare:.2f} GiB spare" if self.fits else f"does not fit, {-spare:.2f} GiB too much"


def held(shapes: PyTree) -> int:
    """Bytes that each chip holds of arrays with these shapes and shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def training_loss(
    model: nn.Module, objective: Objective, update: Update, variables: PyTree, batch: PyTree, frozen: PyTree = None
) -> tuple[Callable[..., jax.Array], tuple[PyTree, ...]]:
    """What a step minimises, a function of the trained parameters first, and the shapes of all that it takes.

    Args:
        variables, batch: shapes; the batch of one chip, `[batch, ...]`, as the data give it.
        frozen: shapes of what else the model needs.
    """
    seen, keys = jax.eval_shape(lambda batch: corrupted(objective, 0, batch), batch)
    trained, _ = update.split(variables["params"])

    def loss(trained, variables, seen, keys, frozen):
        _, others = update.split(variables["params"])
        given = variables_of(joined(trained, others), variables.get("batch_stats"))
        outputs, _ = forward_in_training(model, objective, given, seen, keys, frozen, axis=None)
        return sum(objective.losses(objective.sums(outputs, seen)).values())

    return loss, (trained, variables, seen, keys, frozen)


def saved_for_backward(
    model: nn.Module, objective: Objective, update: Update, variables: PyTree, batch: PyTree, frozen: PyTree = None
) -> int:
    """Bytes that the forward pass leaves for the backward pass, without the parameters, as JAX asks for them.

    Args: those of `training_loss`.
    """
    loss, arguments = training_loss(model, objective, update, variables, batch, frozen)

    def saved(trained, *others):
        return jax.vjp(lambda trained: loss(trained, *others), trained)[1]

    jaxpr = jax.make_jaxpr(saved)(*arguments).jaxpr
    given = {id(variable) for variable in jaxpr.invars}
    kept = {id(variable): variable.aval for variable in jaxpr.outvars if id(variable) not in given}
    return sum(aval.size * aval.dtype.itemsize for aval in kept.values())


def exceeded(message: str, arguments: int) -> tuple[int, int] | None:
    """(bytes needed, bytes there) from the TPU compiler's refusal; `None` where it says something else.

    Args:
        arguments: bytes of the state, which one of its two sentences leaves out.
    """

    def size(text: str) -> int:
        return round(float(text.rstrip("KMGT")) * UNITS[text[-1] if text[-1] in UNITS else ""])

    used = re.search(r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm", message)
    if used:
        return size(used.group(1)), size(used.group(2))
    temporaries = re.search(r"temporaries \(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)", message)
    if temporaries:
        return size(temporaries.group(1)) + arguments, size(temporaries.group(2))
    return None
