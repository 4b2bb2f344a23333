"""The objectives whose one loss is the cross-entropy of labels."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.struct
from jaxtyping import Array, Float

from models.layers.vocabulary import VocabularyScores
from objectives.losses import IGNORED, NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective, ObjectiveError, Targets


@flax.struct.dataclass
class Judged:
    """What stands for scores that are never there whole: over the places that are asked the sum of their losses, how many have
    the label as the highest score, and how many there are."""

    amount: Float[Array, ""]
    right: Float[Array, ""]
    weight: Float[Array, ""]


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
    unprojected: ClassVar[bool] = True
    factor: ClassVar[float | None] = None

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        return {self.loss_name: NATS}

    def logits(self, outputs: Mapping[str, Any]) -> Any:
        """Scores of the classes."""
        return self.output(outputs)

    def judged(self, outputs: Mapping[str, Any], batch: Example) -> Mapping[str, Any]:
        name = next(name for name in self.asks[0] if name in outputs)
        scores, labels = outputs[name], batch[self.answer]
        if isinstance(scores, Judged):
            raise ObjectiveError(
                f"{self!r} asks for {name}, which another part of a Sum has asked: both need whole scores"
            )
        if not isinstance(scores, VocabularyScores):
            return outputs

        def judge(logits: Array, labels: Array) -> tuple[Array, Array]:
            return cross_entropy(logits, labels, self.smoothing)[0], accuracy(logits, labels)[0]

        amount, right = scores.judged(labels, IGNORED, judge)
        weight = (labels != IGNORED).sum().astype(amount.dtype)
        return {**outputs, name: Judged(amount, right, weight)}

    def loss(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        logits = self.logits(outputs)
        if isinstance(logits, Judged):
            amount, weight = logits.amount, logits.weight
        else:
            amount, weight = cross_entropy(logits, batch[self.answer], self.smoothing)
        return {self.loss_name: (amount if self.factor is None else self.factor * amount, weight)}

    def metrics(self, outputs: Mapping[str, Any], batch: Example) -> Losses:
        logits = self.logits(outputs)
        pair = (logits.right, logits.weight) if isinstance(logits, Judged) else accuracy(logits, batch[self.answer])
        return {self.accuracy_name: pair}

    def targets(self, outputs: Mapping[str, Any], batch: Example) -> dict[str, Targets]:
        classes, factor = self.output(outputs).shape[-1], 1.0 if self.factor is None else self.factor
        return {self.loss_name: Targets(batch[self.answer], classes, self.accuracy_name, self.smoothing, factor)}
