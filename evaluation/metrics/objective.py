"""The losses and metrics of an objective as a metric: ratios of sums."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array

from evaluation.metric import Metric, State
from objectives import Objective
from training.step import mean


@dataclasses.dataclass(frozen=True)
class OfObjective(Metric):
    """{name: sum over weight} of each loss and metric of the objective, and `loss`, the sum of the losses."""

    objective: Objective
    summed: ClassVar[bool] = True

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        return {"losses": self.objective.loss(outputs, batch), "metrics": self.objective.metrics(outputs, batch)}

    def compute(self, state: State) -> dict[str, float]:
        losses, metrics = (
            {name: mean(float(amount), float(weight)) for name, (amount, weight) in state[of].items()}
            for of in ("losses", "metrics")
        )
        return {"loss": sum(losses.values()), **losses, **metrics}
