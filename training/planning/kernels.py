"""What kernels do in a train step, by their own formulas: the compiler sees their arrays, and not their arithmetic."""

import dataclasses

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from objectives import Objective
from training.planning.memory import training_loss
from training.state import Update


@dataclasses.dataclass(frozen=True)
class KernelWork:
    """Of all kernels of a program: how often they run, their floating-point operations, and bytes to and from main memory."""

    calls: int = 0
    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "KernelWork") -> "KernelWork":
        return KernelWork(self.calls + other.calls, self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, factor: int | float) -> "KernelWork":
        return KernelWork(round(self.calls * factor), self.flops * factor, self.bytes * factor)


def kernel_work(program: Jaxpr, name: str = "") -> KernelWork:
    """That of the kernels whose name contains `name`. A loop counts as often as it runs; of several versions, as platforms have
    them, the last, which is that of accelerators."""
    total = KernelWork()
    for equation in program.eqns:
        params = equation.params
        if equation.primitive.name == "pallas_call":
            cost = params["cost_estimate"]
            if name in (params["name"] or ""):
                total += KernelWork(1, float(cost.flops), float(cost.bytes_accessed))
            continue
        inner = params["branches"][-1:] if equation.primitive.name == "cond" else params.values()
        for x in inner:
            if isinstance(x, ClosedJaxpr | Jaxpr):
                body = x.jaxpr if isinstance(x, ClosedJaxpr) else x
                total += kernel_work(body, name) * params.get("length", 1)
    return total


def attention_work(
    model: nn.Module, objective: Objective, update: Update, variables: PyTree, batch: PyTree, frozen: PyTree = None
) -> tuple[KernelWork, float]:
    """The kernels of a step's loss and gradient, and the operations of one of the two products that attention consists of.

    Args:
        variables, batch: shapes; the batch of one chip, `[batch, ...]`, as the data give it.
        frozen: shapes of what else the model needs.
    """
    loss, arguments = training_loss(model, objective, update, variables, batch, frozen)
    forward = kernel_work(jax.make_jaxpr(loss)(*arguments).jaxpr, "attention_forward")
    step = kernel_work(jax.make_jaxpr(jax.grad(loss))(*arguments).jaxpr)
    return step, forward.flops / 2
