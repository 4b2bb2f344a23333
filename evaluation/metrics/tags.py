"""Labels of words: how many are right, and entities, by Tjong Kim Sang & De Meulder, "Introduction to the CoNLL-2003 Shared
Task", 2003, section 2.4.

A word's guess is that of its first token. All windows of a long sentence are judged as one, and so is a word without any token.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from evaluation.metric import Metric, State
from inference import scores


@dataclasses.dataclass(frozen=True)
class Tags(Metric):
    """Base of the metrics of tagged sentences."""

    asks: ClassVar[tuple[str, ...]] = ("logits",)
    reads: ClassVar[tuple[str, ...]] = ("labels", "index")

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        return {"guesses": scores.guessed(outputs["logits"]).astype(jnp.int32), "index": batch["index"]}


@dataclasses.dataclass(frozen=True)
class WordAccuracy(Tags):
    """How many words have the right label. One that the tokenizer leaves nothing of is wrong."""

    figures: ClassVar[tuple[str, ...]] = ("word_accuracy",)

    def judged(self, state: State, examples: Any) -> State:
        sentences = examples.by_sentence(state["index"], state["guesses"])
        counts = [((labels == guesses).sum(), len(labels)) for labels, guesses in sentences]
        return dict(zip(("right", "words"), np.array(counts, np.int64).reshape(-1, 2).T, strict=True))

    def compute(self, state: State) -> dict[str, float]:
        return {"word_accuracy": float(state["right"].sum() / max(1, state["words"].sum()))}


@dataclasses.dataclass(frozen=True)
class Entities(Tags):
    """Precision, recall and F1 of entities, right where type and both ends are, by seqeval. Labels are `B-…`, `I-…` and `O`."""

    figures: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")
    libraries: ClassVar[tuple[str, ...]] = ("seqeval",)

    def judged(self, state: State, examples: Any) -> State:
        from seqeval.metrics.sequence_labeling import get_entities

        names, counts = np.array([*examples.names, "O"]), []
        for sentence in examples.by_sentence(state["index"], state["guesses"]):
            there, guessed = (set(get_entities(names[np.maximum(labels, -1)].tolist())) for labels in sentence)
            counts.append((len(there & guessed), len(guessed), len(there)))
        return dict(zip(("right", "guessed", "there"), np.array(counts, np.int64).reshape(-1, 3).T, strict=True))

    def compute(self, state: State) -> dict[str, float]:
        right, guessed, there = (int(state[name].sum()) for name in ("right", "guessed", "there"))
        f1 = 2 * right / max(1, guessed + there)
        return {"precision": right / max(1, guessed), "recall": right / max(1, there), "f1": f1}
