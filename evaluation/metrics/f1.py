"""F1, the harmonic mean of precision and recall: of one class, or averaged over classes. Van Rijsbergen, "Information
Retrieval", 2nd edition, 1979, chapter 7."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Array

from evaluation.metric import Metric, State
from evaluation.metrics.accuracy import guessed
from objectives.losses import IGNORED


@dataclasses.dataclass(frozen=True)
class F1(Metric):
    """F1 of the likeliest classes, labels that are `IGNORED` left out.

    Attributes:
        average: `binary`, of the class `positive`; or `macro`, the mean over the classes that occur.
        positive: number of the class.
    """

    average: Literal["binary", "macro"] = "binary"
    positive: int = 1

    asks = ("logits",)
    reads = ("labels",)

    @property
    def figures(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("f1" if self.average == "binary" else "macro_f1",)

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        guesses, labels = guessed(outputs["logits"], batch["labels"])
        return {"guesses": guesses, "labels": labels}

    def compute(self, state: State) -> dict[str, float]:
        asked = state["labels"] != IGNORED
        guesses, labels = state["guesses"][asked], state["labels"][asked]
        count = max(guesses.max(initial=0), labels.max(initial=0), self.positive) + 1
        hits = np.bincount(labels[guesses == labels], minlength=count)
        named = np.bincount(guesses, minlength=count) + np.bincount(labels, minlength=count)
        f1 = 2 * hits / np.maximum(named, 1)  # 2 TP / (2 TP + FP + FN); 0 of a class that never occurs
        if self.average == "binary":
            return {"f1": float(f1[self.positive])}
        return {"macro_f1": float(f1[named > 0].mean()) if named.any() else 0.0}
