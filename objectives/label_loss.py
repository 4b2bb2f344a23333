"""The objectives whose one loss is the cross-entropy of labels."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array

from objectives.losses import NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective, Targets


@dataclasses.dataclass(frozen=True)
class LabelLoss(Objective):
    """Base of these objectives.

    Attributes:
        loss_name: what the loss is called.
        accuracy_name: what the metric is called.
        answer: what the labels are called in an example.
        smoothing: of the labels (see `cross_entropy`).
        factor: what the loss is multiplied by, where it is.
    """

    loss_name: ClassVar[str]
    accuracy_name: ClassVar[str]
    answer: ClassVar[str] = "labels"
    smoothing: ClassVar[float] = 0.0
    factor: ClassVar[float | None] = None

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        return {self.loss_name: NATS}

    def logits(self, outputs: Mapping[str, Array]) -> Array:
        """Scores of the classes."""
        return self.output(outputs)

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        amount, weight = cross_entropy(self.logits(outputs), batch[self.answer], self.smoothing)
        return {self.loss_name: (amount if self.factor is None else self.factor * amount, weight)}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        return {self.accuracy_name: accuracy(self.logits(outputs), batch[self.answer])}

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        classes, factor = self.output(outputs).shape[-1], 1.0 if self.factor is None else self.factor
        return {self.loss_name: Targets(batch[self.answer], classes, self.accuracy_name, self.smoothing, factor)}
