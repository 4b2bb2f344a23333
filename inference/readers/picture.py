"""Pictures, as tasks are given them: a path, the bytes of a file, or an array uint8 [height, width, 3]."""

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
from inference.readers.reader import Output, Reader, asked_for


@dataclasses.dataclass(frozen=True)
class PictureReader(Reader):
    """A model of pictures, and how they are prepared for it."""

    processor: ImageProcessor

    what = "picture"
    types = (str, Path, bytes, np.ndarray)

    @classmethod
    def open(cls, model: nn.Module, variables: dict[str, Any], folder: Path, task: str) -> "PictureReader":
        return cls(model, variables, ImageProcessor.read(folder, model.config.model_type))

    def read(self, given: Sequence[Source]) -> list[np.ndarray]:
        """What the model is shown of each picture, (height, width, 3) uint8."""
        return [
            self.processor.pixels(picture, "" if isinstance(picture, str | Path) else f"picture {number}")
            for number, picture in enumerate(given)
        ]

    def outputs(self, read: Sequence[np.ndarray], asks: tuple[Output, ...]) -> list[dict[str, np.ndarray]]:
        found = []
        for shape, group in itertools.groupby(read, key=np.shape):
            values = self.processor.values(np.stack(list(group)))
            rows = np.zeros((1 << (len(values) - 1).bit_length(), *shape), np.float32)  # few shapes are compiled
            rows[: len(values)] = values
            outputs = jax.device_get(self._apply(asks, self.variables, rows))
            found += [{name: x[row] for name, x in outputs.items()} for row in range(len(values))]
        return found

    @functools.cached_property
    def _apply(self) -> Callable[..., dict[str, jax.Array]]:
        apply = self.model.apply
        return jax.jit(
            lambda asks, variables, rows: asked_for(apply(variables, pixel_values=rows), asks), static_argnums=0
        )
