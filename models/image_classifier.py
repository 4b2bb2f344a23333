"""The head over classes that the convolutional models have in common."""

import abc
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array

from models.kernels.window import Image
from models.layers.norm import BatchAxes
from models.model import Model
from models.outputs import ModelOutput


class ImageClassifier(Model):
    """Base of the models with a head, which differ in `head`. A call takes what `base` takes, and gives its outputs, too.

    Attributes:
        base: the model below the head.
        base_name: what it is called among the parameters.
    """

    labelled: ClassVar[bool | None] = True
    base: ClassVar[type[Model]]
    base_name: ClassVar[str]

    @property
    def batch_statistics(self) -> bool:
        return self.base(self.config, parent=None).batch_statistics

    @property
    def settings(self) -> tuple[str, ...]:
        return self.base(self.config, parent=None).settings

    @nn.compact
    def __call__(self, pixel_values: Image, **settings: Any) -> ModelOutput:
        encoded = self.base(self.config, name=self.base_name)(pixel_values, **settings)
        return ModelOutput(**self.head(encoded, settings.get("batch_axes")), **encoded)

    @abc.abstractmethod
    def head(self, encoded: ModelOutput, batch_axes: BatchAxes) -> dict[str, Array]:
        """The outputs beside those of the model below."""
