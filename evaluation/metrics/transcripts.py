"""Error rates of the transcripts of a model that spreads tokens over frames."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array

from evaluation.metric import Metric, State
from evaluation.metrics.word_errors import WordErrors
from objectives.audio.ctc import greedy
from objectives.losses import IGNORED

AS_WRITTEN = WordErrors(normalizer="none")


@dataclasses.dataclass(frozen=True)
class Transcripts(Metric):
    """`wer` and `cer`, in percent, of the likeliest token of each frame, repetitions and blanks left out; by `WordErrors`, of
    transcripts as the source writes them.

    Attributes:
        blank: the model's `pad_token_id`.
    """

    asks: ClassVar[tuple[str, ...]] = ("logits",)
    reads: ClassVar[tuple[str, ...]] = ("labels", "logit_lengths")
    figures: ClassVar[tuple[str, ...]] = AS_WRITTEN.figures
    libraries: ClassVar[tuple[str, ...]] = ("jiwer",)

    blank: int = 0

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        return {"said": greedy(outputs["logits"], batch["logit_lengths"], self.blank), "right": batch["labels"]}

    def judged(self, state: State, examples: Any) -> State:
        texts = {
            name: [examples.characters.decode(row[row != IGNORED].tolist()) for row in np.asarray(state[name])]
            for name in ("said", "right")
        }
        return AS_WRITTEN.rows(texts["said"], texts["right"])

    def compute(self, state: State) -> dict[str, float]:
        return AS_WRITTEN.compute(state)
