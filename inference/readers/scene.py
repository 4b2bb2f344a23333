"""Pictures of any shape, for models that look for objects, segments or depth in them."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.images.pictures import Pixels, Source, decoded, opened
from data.scenes.processor import SceneProcessor, resize
from inference.readers.picture import PictureReader
from inference.readers.reader import Output, Reader, apply
from models.model import Model


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A picture upright, and what the model is shown of it, both (height, width, 3) uint8."""

    picture: Pixels
    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return self.picture.shape[:2]


@dataclasses.dataclass(frozen=True)
class SceneReader(Reader):
    """A model of pictures of any shape, and how they are prepared for it. Those of one shape that come one after another are
    seen together, and none is padded: a program is compiled for each shape."""

    processor: SceneProcessor

    what = PictureReader.what
    types = PictureReader.types
    block = 8

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "SceneReader":
        return cls(model, variables, SceneProcessor.read(folder, model.config.model_type))

    def read(self, given: Sequence[Source]) -> list[Shown]:
        """Raises `DataError` where something is no picture, or too small."""
        return [
            self._one(picture, "" if isinstance(picture, str | Path) else f"picture {number}")
            for number, picture in enumerate(given)
        ]

    def _one(self, given: Source, name: str) -> Shown:
        with opened(given, name) as image:
            image = decoded(image)
            size = self.processor.resized((image.height, image.width))
            return Shown(np.asarray(image), np.asarray(resize(image, size, self.processor.resample)))

    def outputs(self, read: Sequence[Shown], asks: tuple[Output, ...]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        done = 0
        for _, group in itertools.groupby(read, key=lambda one: one.pixels.shape):
            shown = [one.pixels for one in group]
            rows = 1 << (len(shown) - 1).bit_length()  # few shapes are compiled
            inputs = self.processor.batch([*shown, *shown[:1] * (rows - len(shown))])
            inputs = {name: x for name, x in inputs.items() if name in self.model.inputs}
            outputs = jax.device_get(apply(self.model, asks, self.variables, inputs))
            for row in range(len(shown)):
                yield done + row, {name: x[row] for name, x in outputs.items()}
            done += len(shown)
