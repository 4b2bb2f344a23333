"""Distillation: a student learns what its teacher would say, beside what the text says.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, section 2; the three terms of
Sanh et al., "DistilBERT, a distilled version of BERT", 2019, arXiv 1910.01108, section 3.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from models.kernels.precision import widened
from objectives.losses import IGNORED, NATS
from objectives.objective import Example, Losses, Objective, ObjectiveError, Targets
from objectives.sum import Wrapper
from objectives.text.masked import MaskedLM

Mask = Bool[Array, "batch places"]


@dataclasses.dataclass(frozen=True)
class Distillation(Wrapper):
    """The teacher's distribution, the task's own labels, and the direction of the teacher's hidden states.

    Student and teacher run in one forward pass on the same corrupted text, the teacher without dropout. It returns:

        prediction_logits or logits (batch, places, vocabulary): of the student, at the places of the task's labels.
        teacher_logits (batch, places, vocabulary): of the teacher, at the same places.
        hidden, teacher_hidden (batch, length, hidden): of their last layers, at every token.

    No gradient reaches the teacher from here.

    Attributes:
        task: what both read and are asked; `CausalLM()` for a decoder.
        temperature: both distributions are softened by it, and the loss multiplied by its square.
        everywhere: compare distributions at every token attended to, as published, rather than only where the task asks:
            the model then gives both logits for the whole length, and the task's are taken from there.
        distillation_weight, task_weight, cosine_weight: of the three losses, which are reported as weighted; the task's are
            also reported as they are, among the metrics. Without the last the hidden states are not asked for.
    """

    task: Objective = MaskedLM()
    temperature: float = 2.0
    everywhere: bool = False
    distillation_weight: float = 5.0
    task_weight: float = 2.0
    cosine_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ObjectiveError(f"temperature={self.temperature}: expected more than 0")
        weights = self.distillation_weight, self.task_weight, self.cosine_weight
        if min(weights) < 0:
            raise ObjectiveError(f"weights {weights} of the losses: expected 0 or more")

    @property
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        hidden = (("hidden",), ("teacher_hidden",)) if self.cosine_weight else ()
        return (("prediction_logits", "logits"), ("teacher_logits",), *hidden)

    @property
    def units(self) -> Mapping[str, str]:  # type: ignore[override]
        weighted = {f"weighted_{name}": unit for name, unit in self.task.units.items()}
        return {**self.task.units, **weighted, "distillation_loss": NATS}

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self._renamed(dict.fromkeys(self.task.writes)))

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for name in self.task.takes if not (self.everywhere and name == "masked_positions"))

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """As the task does; with `everywhere`, `masked_positions` becomes `label_positions`, which no model heeds."""
        return self._renamed(self.task.corrupt(key, example))

    def _renamed(self, named: dict) -> dict:
        if not self.everywhere:
            return named
        return {"label_positions" if name == "masked_positions" else name: value for name, value in named.items()}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """T² · KL(teacher ‖ student) summed over places, what the task asks, and 1 - cos of hidden states over tokens."""
        logits, teacher = self.output(outputs, 0), self.output(outputs, 1)
        compared = self._attended(batch, logits) if self.everywhere else batch["labels"] != IGNORED
        divergences = self.distillation_weight * divergence(logits, teacher, self.temperature)
        losses = {"distillation_loss": _summed(divergences, compared)}
        for name, (amount, weight) in self.task.loss(self._at_labels(outputs, batch), batch).items():
            losses[f"weighted_{name}"] = (self.task_weight * amount, weight)
        if self.cosine_weight:
            hidden, teacher_hidden = self.output(outputs, 2), self.output(outputs, 3)
            distances = self.cosine_weight * (1 - _cosine(hidden, teacher_hidden))
            losses["cosine_loss"] = _summed(distances, self._attended(batch, hidden))
        return losses

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """The task's, its losses, and how often student and teacher would say the same."""
        logits, teacher = self.output(outputs, 0), self.output(outputs, 1)
        compared = self._attended(batch, logits) if self.everywhere else batch["labels"] != IGNORED
        agree = logits.argmax(axis=-1) == teacher.argmax(axis=-1)
        asked = self._at_labels(outputs, batch)
        return {
            **self.task.loss(asked, batch),
            **self.task.metrics(asked, batch),
            "agreement": _summed(agree.astype(jnp.float32), compared),
        }

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        return self.task.targets(self._at_labels(outputs, batch), batch)

    def _attended(self, batch: Example, like: Array) -> Mask:
        return batch["attention_mask"] > 0 if "attention_mask" in batch else jnp.ones(like.shape[:2], bool)

    def _at_labels(self, outputs: Mapping[str, Array], batch: Example) -> Mapping[str, Array]:
        """The outputs as the task expects them: logits at the places of its labels alone."""
        if not self.everywhere or "label_positions" not in batch:
            return outputs
        name = next(name for name in self.asks[0] if name in outputs)
        return {name: jnp.take_along_axis(outputs[name], batch["label_positions"][..., None], axis=1)}


def divergence(
    logits: Float[Array, "*places classes"], teacher: Float[Array, "*places classes"], temperature: float
) -> Float[Array, "*places"]:
    """T² · KL(softmax(teacher / T) ‖ softmax(logits / T)), in float32 or wider; no gradient reaches the teacher."""
    teacher = jax.lax.stop_gradient(teacher)
    student_log = jax.nn.log_softmax(widened(logits) / temperature)
    teacher_log = jax.nn.log_softmax(widened(teacher) / temperature)
    return temperature**2 * (jnp.exp(teacher_log) * (teacher_log - student_log)).sum(axis=-1)


def _cosine(
    hidden: Float[Array, "batch length hidden"], teacher: Float[Array, "batch length hidden"]
) -> Float[Array, "batch length"]:
    """The cosine of the angle between hidden states, in float32 or wider."""
    hidden, teacher = widened(hidden), widened(jax.lax.stop_gradient(teacher))
    # Of a zero vector 0, with a gradient of 0.
    square = (hidden**2).sum(axis=-1) * (teacher**2).sum(axis=-1)
    return (hidden * teacher).sum(axis=-1) * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def _summed(values: Float[Array, "batch places"], mask: Mask) -> tuple[Float[Array, ""], Float[Array, ""]]:
    return jnp.where(mask, values, 0.0).sum(), mask.sum().astype(jnp.float32)
