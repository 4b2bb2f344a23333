"""Classification of pictures, texts and tokens: the class of each, or its classes.

Label smoothing: Szegedy et al., 2015, arXiv 1512.00567. Two labels in the shares of a mixture: Zhang et al., "mixup", 2017, arXiv
1710.09412; Yun et al., "CutMix", 2019, arXiv 1905.04899. Each class by itself: Wightman, Touvron, Jégou, "ResNet strikes back",
2021, arXiv 2110.00476, section 2; Beyer et al., "Are we done with ImageNet?", 2020, arXiv 2006.07159, section 5.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.kernels.precision import widened
from objectives.losses import IGNORED, NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective, ObjectiveError, Pair, Targets

SoftTargets = Float[Array, "*shape classes"]


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
    """`labels`, the number of an example's class, or (classes,) with 1 for each of its classes and 0 for the others; or
    (length,), the class of each token, `IGNORED` where none is asked.

    Whatever else an example holds is the model's. A batch of mixtures has `mix` (batch,), too, the fraction of what `labels`
    names; the rest is what `other_labels` name.

    Attributes:
        smoothing: of the labels (see `cross_entropy`).
        sigmoid: every class is asked for by itself, yes or no, and the losses of all are added up: for several labels, or
            for one. (`timm` takes the mean over the classes, which for Adam and LAMB is the same.)
        soft: the example has `targets` (classes,), the probability of each class, in the place of labels.
    """

    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",),)
    units: ClassVar[Mapping[str, str]] = MappingProxyType({"classification_loss": NATS})
    needs: ClassVar[tuple[str, ...]] = ("classes",)

    smoothing: float = 0.0
    sigmoid: bool = False
    soft: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ObjectiveError(f"smoothing={self.smoothing}: a fraction must lie in [0, 1)")

    @property
    def answer(self) -> str:
        """The name of what is right."""
        return "targets" if self.soft else "labels"

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.answer,)

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Cross-entropy of the labels, of two in the shares that they have in a mixture."""
        logits, answer = self.output(outputs), batch[self.answer]
        if answer.ndim == 1 and not jnp.issubdtype(answer.dtype, jnp.integer):
            raise ObjectiveError(f"{self.answer} are numbers, and no classes: a Regression predicts those")
        if self.sigmoid or answer.ndim == logits.ndim:
            return {"classification_loss": self._dense(logits, batch)}
        if "mix" not in batch:
            return {"classification_loss": cross_entropy(logits, answer, self.smoothing)}
        amount, weight = cross_entropy(logits, answer, self.smoothing, batch["mix"])
        other, _ = cross_entropy(logits, batch[f"other_{self.answer}"], self.smoothing, 1 - batch["mix"])
        return {"classification_loss": (amount + other, weight)}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """How often the best class is right, and, of more than five, one of the best five; of a mixture the greater part.

        Of several labels any is right, and an example without one does not count; of soft ones the most probable.
        """
        logits, answer = self.output(outputs), batch[self.answer]
        if answer.ndim == logits.ndim:
            targets = self._targets(answer, logits, batch)
            taken = jnp.take_along_axis(targets, logits.argmax(axis=-1, keepdims=True), axis=-1)[:, 0]
            most = targets.max(axis=-1)
            right = (taken == most) & (most > 0)
            return {"top_1_accuracy": (right.sum().astype(jnp.float32), (most > 0).sum().astype(jnp.float32))}
        if "mix" in batch:
            answer = jnp.where(batch["mix"] < 0.5, batch[f"other_{self.answer}"], answer)
        metrics = {"top_1_accuracy": accuracy(logits, answer)}
        if logits.shape[-1] > 5:
            metrics["top_5_accuracy"] = accuracy(logits, answer, among=5)
        return metrics

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        logits, answer = self.output(outputs), batch[self.answer]
        if self.sigmoid or "mix" in batch or answer.ndim == logits.ndim:
            return {}
        return {"classification_loss": Targets(answer, logits.shape[-1], "top_1_accuracy", self.smoothing)}

    def _targets(self, answer: Array, logits: Array, batch: Example) -> SoftTargets:
        """The probability of each class, of mixtures too."""

        def dense(answer: Array) -> SoftTargets:
            one = answer.ndim < logits.ndim
            return jax.nn.one_hot(answer, logits.shape[-1]) if one else answer.astype(jnp.float32)

        if "mix" not in batch:
            return dense(answer)
        weight = batch["mix"][:, None]
        return weight * dense(answer) + (1 - weight) * dense(batch[f"other_{self.answer}"])

    def _dense(self, logits: SoftTargets, batch: Example) -> Pair:
        """`(sum, weight)` of the loss of targets for each class."""
        answer, classes, logits = batch[self.answer], logits.shape[-1], widened(logits)
        targets = self._targets(answer, logits, batch)
        if targets.shape != logits.shape:
            raise ObjectiveError(f"{self.answer} of {targets.shape[-1]} classes, and logits of {classes}")
        asked = answer != IGNORED if answer.ndim < logits.ndim else targets.any(axis=-1)
        if (
            self.sigmoid and answer.ndim == logits.ndim
        ):  # no class at all is an answer where each is asked for by itself
            asked = jnp.ones_like(asked)
        targets = (1 - self.smoothing) * targets + self.smoothing / classes
        if self.sigmoid:  # -t log σ(x) - (1 - t) log σ(-x)
            losses = (jax.nn.softplus(logits) - targets * logits).sum(axis=-1)
        else:
            losses = -(targets * jax.nn.log_softmax(logits)).sum(axis=-1)
        return jnp.where(asked, losses, 0.0).sum(), asked.sum().astype(jnp.float32)
