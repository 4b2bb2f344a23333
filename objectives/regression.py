"""Regression: a number for each example, by the mean squared error.

Cer et al., "SemEval-2017 Task 1: Semantic Textual Similarity", 2017, arXiv 1708.00055, whose scores BERT and its followers are
fine-tuned to predict so.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from models.kernels.precision import widened
from objectives.objective import Example, Losses, Objective, ObjectiveError


@dataclasses.dataclass(frozen=True)
class Regression(Objective):
    """`labels`, the number (float) that belongs to an example; the model gives one logit.

    Whatever else an example holds is the model's input.
    """

    reads: ClassVar[tuple[str, ...]] = ("labels",)
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",),)
    needs: ClassVar[tuple[str, ...]] = ("classes",)

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """(logit - label)², the mean of which over the examples is minimised."""
        logits, labels = self.output(outputs), batch["labels"]
        if not jnp.issubdtype(labels.dtype, jnp.floating):
            raise ObjectiveError(
                "labels are classes, and a regression predicts numbers: set --data.numbers, or Classification"
            )
        if logits.shape != (*labels.shape, 1):
            raise ObjectiveError(f"logits {logits.shape} are not a number for each of the labels {labels.shape}")
        squares = jnp.square(widened(logits)[:, 0] - labels)
        return {"regression_loss": (squares.sum(), jnp.float32(labels.size))}
