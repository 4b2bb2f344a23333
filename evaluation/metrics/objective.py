"""The losses and metrics of an objective as a metric."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from evaluation.metric import Metric, State
from objectives import Objective
from training.step import mean


@dataclasses.dataclass(frozen=True)
class OfObjective(Metric):
    """{name: value} of each loss and metric of the objective, and `loss`, the sum of the losses."""

    objective: Objective
    summed: ClassVar[bool] = True

    @property
    def unprojected(self) -> bool:  # type: ignore[override]
        return self.objective.unprojected

    def update(self, outputs: Mapping[str, Any], batch: Mapping[str, Array]) -> State:
        outputs = self.objective.judged(outputs, batch)
        return {"sums": self.objective.sums(outputs, batch), "metrics": self.objective.metrics(outputs, batch)}

    def compute(self, state: State) -> dict[str, float]:
        if self.objective.ratios:
            losses = {name: mean(*map(float, pair)) for name, pair in state["sums"].items()}
        else:
            totals = jax.tree.map(jnp.float32, state["sums"])
            losses = {name: float(value) for name, value in self.objective.losses(totals).items()}
        metrics = {name: mean(*map(float, pair)) for name, pair in state["metrics"].items()}
        return {"loss": sum(losses.values()), **losses, **metrics}
