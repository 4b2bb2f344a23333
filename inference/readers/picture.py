"""Pictures, as tasks are given them: a path, the bytes of a file, or an array uint8 [height, width, 3]."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.images.pictures import Source
from data.images.processor import ImageProcessor
from inference.readers.reader import Output, Reader, apply
from models.model import Model


@dataclasses.dataclass(frozen=True)
class PictureReader(Reader):
    """A model of pictures, and how they are prepared for it."""

    processor: ImageProcessor

    what = "picture"
    types = (str, Path, bytes, np.ndarray)

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "PictureReader":
        return cls(model, variables, ImageProcessor.read(folder, model.config.model_type))

    def read(self, given: Sequence[Source]) -> list[np.ndarray]:
        """What the model is shown of each picture, (height, width, 3) uint8."""
        return [
            self.processor.pixels(picture, "" if isinstance(picture, str | Path) else f"picture {number}")
            for number, picture in enumerate(given)
        ]

    def outputs(
        self, read: Sequence[np.ndarray], asks: tuple[Output, ...]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        done = 0
        for shape, group in itertools.groupby(read, key=np.shape):
            values = self.processor.values(np.stack(list(group)))
            rows = np.zeros((1 << (len(values) - 1).bit_length(), *shape), np.float32)  # few shapes are compiled
            rows[: len(values)] = values
            outputs = jax.device_get(apply(self.model, asks, self.variables, {"pixel_values": rows}))
            for row in range(len(values)):
                yield done + row, {name: x[row] for name, x in outputs.items()}
            done += len(values)
