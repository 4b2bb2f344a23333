"""Errors of depth, as they are published for NYU Depth v2 and KITTI.

Eigen, Puhrsch, Fergus: "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", 2014, arXiv 1406.2283,
section 4; the crop of KITTI is that of Garg et al., "Unsupervised CNN for Single View Depth Estimation", 2016, arXiv 1603.04992.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from evaluation.metric import Metric, MetricError, State
from objectives.images.depth import valid

CROPS = {
    "eigen_nyu": ("0.09375", "0.98125", "0.0640625", "0.9390625"),
    "eigen_kitti": ("0.3324324", "0.91351351", "0.0359477", "0.96405229"),
    "garg": ("0.40810811", "0.99189189", "0.03594771", "0.96405229"),
}
"""Where the part that is scored begins and ends, in rows and in columns, as fractions of the height and the width: of 480 × 640
pixels `eigen_nyu` is rows 45 to 471 and columns 41 to 601."""


@dataclasses.dataclass(frozen=True)
class DepthErrors(Metric):
    """With p a prediction and t the depth of its pixel, of each picture, and then the mean over the pictures:

        abs_rel: mean |p - t| / t.                      sq_rel: mean (p - t)² / t.
        rmse: √ mean (p - t)², metres.                  rmse_log: √ mean d², d = ln p - ln t.
        silog: √(mean d² - `variance_focus` (mean d)²). log10: mean |log₁₀ p - log₁₀ t|.
        delta1, delta2, delta3: share of the pixels with max(p / t, t / p) below 1.25, 1.25², 1.25³.

    Pixels count whose depth was measured and lies between the two limits; predictions are cut off at these. A picture without
    such pixels does not count.

    Attributes:
        min_depth, max_depth: metres, themselves left out; 10 of NYU, 80 of KITTI.
        crop: the part of a picture that is scored, one of `CROPS`; of the canvas where pictures are padded.
        variance_focus: of `silog`: a half as GLPN has it, 1 as KITTI's benchmark does (and 100 times as much).
    """

    asks: ClassVar[tuple[str, ...]] = ("predicted_depth",)
    reads: ClassVar[tuple[str, ...]] = ("labels",)
    figures: ClassVar[tuple[str, ...]] = (
        *("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10"),
        *("delta1", "delta2", "delta3"),
    )

    min_depth: float = 1e-3
    max_depth: float = 10.0
    crop: Literal["", "eigen_nyu", "eigen_kitti", "garg"] = ""
    variance_focus: float = 0.5

    def __post_init__(self) -> None:
        if self.crop and self.crop not in CROPS:
            raise MetricError(f"crop={self.crop!r}: expected {', '.join(CROPS)}, or nothing")
        if not 0 < self.min_depth < self.max_depth:
            raise MetricError(
                f"min_depth={self.min_depth}, max_depth={self.max_depth}: expected metres, the smaller first"
            )

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        """The figures of each picture, and how many of its pixels count."""
        predicted, labels = outputs["predicted_depth"].astype(jnp.float32), batch["labels"].astype(jnp.float32)
        if predicted.shape != labels.shape:
            raise MetricError(
                f"predicted_depth {predicted.shape} is not a number for each of the labels {labels.shape}"
            )
        scored = self.part(labels)
        labels, predicted = labels[scored], predicted[scored]
        asked = valid(labels, self.max_depth, self.min_depth) & (labels < self.max_depth)
        predicted = jnp.where(jnp.isnan(predicted), self.min_depth, predicted)
        predicted = jnp.where(asked, jnp.clip(predicted, self.min_depth, self.max_depth), 1.0)
        labels, count = jnp.where(asked, labels, 1.0), asked.sum(axis=(1, 2))

        def mean(x: Array) -> Float[Array, " pictures"]:
            return jnp.where(asked, x, 0.0).sum(axis=(1, 2)) / jnp.maximum(count, 1)

        error, ratio = predicted - labels, jnp.maximum(predicted / labels, labels / predicted)
        apart = jnp.log(predicted) - jnp.log(labels)
        squared_log = mean(jnp.square(apart))
        invariant = squared_log - self.variance_focus * jnp.square(mean(apart))
        figures = {
            "abs_rel": mean(jnp.abs(error) / labels),
            "sq_rel": mean(jnp.square(error) / labels),
            "rmse": jnp.sqrt(mean(jnp.square(error))),
            "rmse_log": jnp.sqrt(squared_log),
            "silog": jnp.sqrt(jnp.maximum(invariant, 0.0)),
            "log10": mean(jnp.abs(apart)) / jnp.log(10.0),
            **{f"delta{power}": mean(ratio < 1.25**power) for power in (1, 2, 3)},
        }
        return {"figures": jnp.stack([figures[name] for name in self.figures], axis=1), "count": count}

    def part(self, labels: Float[Array, "pictures height width"]) -> tuple[slice, slice, slice]:
        """The pictures, rows and columns that are scored."""
        top, bottom, left, right = map(Fraction, CROPS.get(self.crop, ("0", "1", "0", "1")))
        _, height, width = labels.shape
        return slice(None), slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))

    def compute(self, state: State) -> dict[str, float]:
        rows = state["figures"][state["count"] > 0]
        means = rows.mean(axis=0) if len(rows) else [0.0] * len(self.figures)
        return dict(zip(self.figures, map(float, means), strict=True))
