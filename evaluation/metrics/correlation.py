"""Correlation of predicted and right numbers: Pearson's, and Spearman's of their ranks, the metrics of STS-B (Cer et al., 2017,
arXiv 1708.00055)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Array

from evaluation.metric import Metric, MetricError, State


@dataclasses.dataclass(frozen=True)
class Correlation(Metric):
    """From -1 to 1, and 0 where all numbers on a side are equal."""

    asks: ClassVar[tuple[str, ...]] = ("logits",)
    reads: ClassVar[tuple[str, ...]] = ("labels",)
    figures: ClassVar[tuple[str, ...]] = ("pearson", "spearman")

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        logits, labels = outputs["logits"], batch["labels"]
        if logits.shape != (*labels.shape, 1):
            raise MetricError(f"logits {logits.shape} are not a number for each of the labels {labels.shape}")
        return {"predicted": logits[:, 0], "labels": labels}

    def compute(self, state: State) -> dict[str, float]:
        from scipy.stats import pearsonr, spearmanr

        sides = [np.asarray(state[name], np.float64) for name in ("predicted", "labels")]
        if min(map(np.ptp, sides)) == 0:
            return {"pearson": 0.0, "spearman": 0.0}
        return {"pearson": float(pearsonr(*sides).statistic), "spearman": float(spearmanr(*sides).statistic)}
