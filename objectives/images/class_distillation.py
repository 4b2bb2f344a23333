"""Distillation of image classifiers: the teacher's prediction is a target beside the label.

Touvron et al., "Training data-efficient image transformers & distillation through attention", 2020, arXiv 2012.12877, section 4;
two heads, one for the label and one for the teacher: Graham et al., "LeViT", 2021, arXiv 2104.01136.
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
    """(1 - α) · the task's loss + α · the distillation loss. The teacher's input is the same image, mixed if it is.

    The teacher's outputs are `teacher_logits` (batch, classes). A student with two heads learns the labels with `cls_logits`
    and the teacher's prediction with `distillation_logits`; its own prediction is their mean. A student with one head learns
    both with `logits`. No gradient reaches the teacher.

    Attributes:
        task: the objective on the labels.
        alpha: weight of the distillation loss. Losses are reported weighted; the task's is also a metric, unweighted.
        hard: the target is the teacher's most probable class rather than its distribution.
        temperature: softens both distributions, and multiplies the loss by its square; hard targets ignore it. (Published with
            α = 0.1 and a temperature of 3; the released script also divides by the number of classes.)
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
        """Both losses, weighted."""
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
        """The task's metrics and loss, and how often student and teacher predict the same class."""
        logits = (self.output(outputs, 0) + self.output(outputs, 1)) / 2
        return {
            **self.task.loss(self._labelled(outputs), batch),
            **self.task.metrics({"logits": logits}, batch),
            "agreement": accuracy(logits, self.output(outputs, 2).argmax(axis=-1)),
        }

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        return self.task.targets(self._labelled(outputs), batch)

    def _labelled(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs with the logits under the task's name."""
        return {"logits": self.output(outputs, 0)}
