"""Accuracy: how often the likeliest class is right."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from evaluation.metric import Metric, MetricError, State
from inference import scores
from objectives.losses import IGNORED


@dataclasses.dataclass(frozen=True)
class Accuracy(Metric):
    """Of all labels but `IGNORED` ones: one an example, or one a token."""

    asks: ClassVar[tuple[str, ...]] = ("logits",)
    reads: ClassVar[tuple[str, ...]] = ("labels",)
    figures: ClassVar[tuple[str, ...]] = ("accuracy",)

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        guesses, labels = guessed(outputs["logits"], batch["labels"])
        asked = labels != IGNORED
        axes = tuple(range(1, labels.ndim))
        return {"right": (asked & (guesses == labels)).sum(axis=axes), "asked": asked.sum(axis=axes)}

    def compute(self, state: State) -> dict[str, float]:
        return {"accuracy": float(state["right"].sum() / max(1, state["asked"].sum()))}


def guessed(logits: Array, labels: Array) -> tuple[Array, Array]:
    """The likeliest class for each label, int32, and the labels."""
    if logits.shape[:-1] != labels.shape:
        raise MetricError(f"labels {labels.shape} are not one for each of the logits {logits.shape}")
    return scores.guessed(logits).astype(jnp.int32), labels
