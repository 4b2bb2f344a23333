"""Distillation of a classifier of pictures: what the teacher sees in a picture is asked for beside its label.

Touvron et al., "Training data-efficient image transformers & distillation through attention", 2020, arXiv 2012.12877, section 4;
two heads of which each has a teacher of its own, the label and the model: Graham et al., "LeViT", 2021, arXiv 2104.01136.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from objectives.classification import Classification
from objectives.distillation import divergence
from objectives.losses import NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective, ObjectiveError, Targets
from objectives.sum import Wrapper


@dataclasses.dataclass(frozen=True)
class ClassDistillation(Wrapper):
    """(1 - α) · the task's loss + α · that of the teacher's opinion. The teacher sees the same picture, mixed if it is.

    The teacher says `teacher_logits` (batch, classes). A student with two heads is asked for the labels with `cls_logits` and
    for the teacher's opinion with `distillation_logits`, and what it says is the mean of both; another for both with
    `logits`. No gradient reaches the teacher from here.

    Attributes:
        task: what is asked beside.
        alpha: weight of the teacher's loss. Losses are reported as weighted; the task's also as it is, among the metrics.
        hard: ask for the class that the teacher holds the most probable, rather than for its distribution.
        temperature: softens both distributions, and the loss is multiplied by its square; a hard one has none. (Published
            with α = 0.1 and a temperature of 3; the released script also divides by the number of classes.)
    """

    asks: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("cls_logits", "logits"),
        ("distillation_logits", "logits"),
        ("teacher_logits",),
    )

    task: Objective = Classification()
    alpha: float = 0.5
    hard: bool = True
    temperature: float = 1.0

    def __post_init__(self) -> None:
        self._check_fractions("alpha")
        if not self.temperature > 0:
            raise ObjectiveError(f"temperature={self.temperature}: expected more than 0")

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        weighted = {f"weighted_{name}": unit for name, unit in self.task.units.items()}
        return {**self.task.units, **weighted, "distillation_loss": NATS}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Both parts, weighted."""
        logits, teacher = self.output(outputs, 1), self.output(outputs, 2)
        if self.hard:
            amount, weight = cross_entropy(logits, teacher.argmax(axis=-1))
        else:
            amount, weight = divergence(logits, teacher, self.temperature).sum(), jnp.float32(len(logits))
        losses = {"distillation_loss": (self.alpha * amount, weight)}
        for name, (amount, weight) in self.task.loss(self._labelled(outputs), batch).items():
            losses[f"weighted_{name}"] = ((1 - self.alpha) * amount, weight)
        return losses

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """The task's of what the student says, its loss, and how often student and teacher would say the same."""
        logits = (self.output(outputs, 0) + self.output(outputs, 1)) / 2
        return {
            **self.task.loss(self._labelled(outputs), batch),
            **self.task.metrics({"logits": logits}, batch),
            "agreement": accuracy(logits, self.output(outputs, 2).argmax(axis=-1)),
        }

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        return self.task.targets(self._labelled(outputs), batch)

    def _labelled(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs as the task expects them."""
        return {"logits": self.output(outputs, 0)}
