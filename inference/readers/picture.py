"""Task pipelines of pictures: from a picture to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("image-classification", "runs/vit-demo/model")
ask("cat.jpg")
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from data.images.pictures import Source
from data.images.processor import ImageProcessor
from inference.explanations import explain, illustrated
from inference.tasks.scores import Answer, check_count, probabilities
from models.config import ModelError
from models.outputs import ModelOutput


@dataclasses.dataclass(frozen=True)
class Viewer:
    """A model, how its pictures are prepared, and the way from these to its outputs."""

    model: nn.Module
    variables: dict[str, Any]
    processor: ImageProcessor

    def pixels(self, pictures: Sequence[Source]) -> list[np.ndarray]:
        """What the model is shown of each picture, (height, width, 3) uint8."""
        return [
            self.processor.pixels(picture, "" if isinstance(picture, str | Path) else f"picture {number}")
            for number, picture in enumerate(pictures)
        ]

    def outputs(self, pixels: Sequence[np.ndarray]) -> list[ModelOutput]:
        """The model's outputs for each picture, as numpy arrays; padded to a power of two, so that few shapes are compiled."""
        found = []
        for shape, group in itertools.groupby(pixels, key=np.shape):
            values = self.processor.values(np.stack(list(group)))
            rows = np.zeros((1 << (len(values) - 1).bit_length(), *shape), np.float32)
            rows[: len(values)] = values
            outputs = jax.device_get(self._apply(self.variables, rows))
            found += [jax.tree.map(lambda x, row=row: x[row], outputs) for row in range(len(values))]
        return found

    @functools.cached_property
    def _apply(self) -> Callable[..., ModelOutput]:
        return jax.jit(
            lambda variables, values: ModelOutput(logits=self.model.apply(variables, pixel_values=values)["logits"])
        )


def image_classification(
    view: Viewer, pictures: Sequence[Source], top_k: int = 5, explanation: str | Path | None = None
) -> list[list[Answer]]:
    """For each picture its `top_k` likeliest labels with their probabilities, the likeliest first.

    Args:
        explanation: the file of a picture to be made of where in the (only) picture the likeliest label was seen.
    """
    check_count("top_k", top_k)
    if explanation is not None and len(pictures) != 1:
        raise ModelError(f"an explanation is of one picture, and {len(pictures)} came")
    pixels = view.pixels(pictures)
    names = view.model.config.labels
    answers = []
    for outputs in view.outputs(pixels):
        scores = probabilities(outputs["logits"], view.model.config)
        likeliest = np.argsort(-scores, kind="stable")[:top_k]
        answers.append([{"label": names[label], "score": float(scores[label])} for label in likeliest])
    if explanation is not None:
        values = view.processor.values(pixels[0])
        label = list(names).index(answers[0][0]["label"])
        illustrated(pixels[0], explain(view.model, view.variables, values, label), explanation)
    return answers
