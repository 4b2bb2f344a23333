"""Depth estimation by the scale-invariant error of log depth.

Eigen, Puhrsch, Fergus: "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", 2014, arXiv 1406.2283,
equation 4; its root, as in GLPN: Kim et al., 2022, arXiv 2201.07436.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from models.kernels.precision import widened
from objectives.objective import Example, Losses, Objective, ObjectiveError, Sums

CRITERIA = ("scale_invariant", "l1", "l2", "log_l1")


@dataclasses.dataclass(frozen=True)
class Depth(Objective):
    """The loss of `predicted_depth` against `labels` (height, width), in metres. Pixels whose label is not positive and finite,
    or beyond `max_depth`, are ignored.

    With d = log(prediction) - log(label), over the pixels of the whole batch:

        scale_invariant: √(mean d² - `variance_focus` · (mean d)²); with 1 it is the standard deviation of d.
        log_l1: mean |d|.
        l1, l2: mean |prediction - label|, and mean of its square, in metres.

    Attributes:
        criterion: the loss to minimise.
        variance_focus: λ of the paper.
        max_depth: greatest depth of a label, in metres.
    """

    reads: ClassVar[tuple[str, ...]] = ("labels",)
    takes: ClassVar[tuple[str, ...]] = ("pixel_values",)
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("predicted_depth",),)

    criterion: str = "scale_invariant"
    variance_focus: float = 0.5
    max_depth: float = math.inf

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ObjectiveError(f"criterion={self.criterion!r}: expected one of {', '.join(CRITERIA)}")
        if not self.max_depth > 0:
            raise ObjectiveError(f"max_depth={self.max_depth}: expected metres, more than 0")
        self._check_fractions("variance_focus")

    @property
    def ratios(self) -> bool:
        return self.criterion != "scale_invariant"

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """The sum over the valid pixels, and their number."""
        predicted, labels, asked = self._pixels(outputs, batch)
        if self.criterion == "log_l1":
            errors = jnp.abs(jnp.log(predicted) - jnp.log(labels))
        else:
            errors = jnp.abs(predicted - labels) if self.criterion == "l1" else jnp.square(predicted - labels)
        return {"depth_loss": (jnp.where(asked, errors, 0.0).sum(), asked.sum().astype(jnp.float32))}

    def sums(self, outputs: Mapping[str, Array], batch: Example) -> Sums:
        """For the scale-invariant loss Σ d, Σ d² and the number of pixels; for the others the loss."""
        if self.ratios:
            return super().sums(outputs, batch)
        predicted, labels, asked = self._pixels(outputs, batch)
        apart = jnp.log(predicted) - jnp.log(labels)
        return {
            "squares": jnp.square(apart).sum(),
            "differences": apart.sum(),
            "count": asked.sum().astype(jnp.float32),
        }

    def losses(self, totals: Sums) -> dict[str, Float[Array, ""]]:
        """The loss from the totals; 0, with gradient 0, without valid pixels or without error."""
        if self.ratios:
            return super().losses(totals)
        count = jnp.maximum(totals["count"], 1)
        squared = totals["squares"] / count - self.variance_focus * jnp.square(totals["differences"] / count)
        wrong = squared > 0
        return {"depth_loss": jnp.where(wrong, jnp.sqrt(jnp.where(wrong, squared, 1.0)), 0.0)}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Mean |prediction - label| / label, and the fraction of pixels with a ratio below 1.25 (δ₁)."""
        predicted, labels, asked = self._pixels(outputs, batch)
        weight = asked.sum().astype(jnp.float32)
        near = jnp.maximum(predicted / labels, labels / predicted) < 1.25
        return {
            "absolute_relative_error": ((jnp.abs(predicted - labels) / labels).sum(), weight),
            "threshold_accuracy": ((near & asked).sum().astype(jnp.float32), weight),
        }

    def _pixels(
        self, outputs: Mapping[str, Array], batch: Example
    ) -> tuple[Float[Array, "*pixels"], Float[Array, "*pixels"], Bool[Array, "*pixels"]]:
        """Predictions, labels and the mask of valid pixels, outside of which both are 1."""
        predicted = widened(self.output(outputs))
        labels = batch["labels"].astype(predicted.dtype)
        if predicted.shape != labels.shape:
            raise ObjectiveError(
                f"predicted_depth {predicted.shape} is not a number for each pixel of the labels {labels.shape}: give the model"
                " pictures of a size that it keeps"
            )
        asked = valid(labels, self.max_depth)
        floor = jnp.finfo(predicted.dtype).tiny
        return jnp.where(asked, jnp.maximum(predicted, floor), 1.0), jnp.where(asked, labels, 1.0), asked


def valid(
    labels: Float[Array, "*pixels"], max_depth: float = math.inf, min_depth: float = 0.0
) -> Bool[Array, "*pixels"]:
    """Pixels whose depth was measured and lies in (`min_depth`, `max_depth`]."""
    return jnp.isfinite(labels) & (labels > min_depth) & (labels <= max_depth)
