"""Matthews correlation of guessed and right classes: Matthews, "Comparison of the predicted and observed secondary structure of
T4 phage lysozyme", 1975, Biochimica et Biophysica Acta 405(2); CoLA's metric (Warstadt et al., 2018, arXiv 1805.12471)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array

from evaluation.metric import Metric, State
from evaluation.metrics.accuracy import guessed
from objectives.losses import IGNORED


@dataclasses.dataclass(frozen=True)
class Matthews(Metric):
    """Of the likeliest classes, labels that are `IGNORED` left out: from -1 to 1, and 0 where all guesses are alike."""

    asks: ClassVar[tuple[str, ...]] = ("logits",)
    reads: ClassVar[tuple[str, ...]] = ("labels",)
    figures: ClassVar[tuple[str, ...]] = ("matthews",)
    libraries: ClassVar[tuple[str, ...]] = ("sklearn",)

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        guesses, labels = guessed(outputs["logits"], batch["labels"])
        return {"guesses": guesses, "labels": labels}

    def compute(self, state: State) -> dict[str, float]:
        from sklearn.metrics import matthews_corrcoef

        asked = state["labels"] != IGNORED
        return {"matthews": float(matthews_corrcoef(state["labels"][asked], state["guesses"][asked]))}
