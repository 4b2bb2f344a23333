"""Base of the TFDS builders of the demos. They need no TensorFlow: `Builder(file_format="array_record")`.

(Where there is one, `tfds build data/digit_scenes --file_format=array_record` works, too.)
"""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

SEED = 0
SPLITS = ("train", "validation")


@dataclasses.dataclass(kw_only=True)
class Amount(tfds.core.BuilderConfig):
    """How many examples there are to train on, and to hold out."""

    train: int
    validation: int


TINY = Amount(name="tiny", train=48, validation=16)


class DemoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders. An example is a function of the seed, its split and its number."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)

    @abc.abstractmethod
    def drawn(self, random: np.random.Generator, split: str) -> dict[str, Any]:
        """An example."""

    def about(self, features: dict[str, Any], description: str, **more: str) -> tfds.core.DatasetInfo:
        """The result of `_info`; examples are not shuffled."""
        named = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(
            builder=self, features=named, description=description, disable_shuffling=True, **more
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(number, split) for number, split in enumerate(SPLITS)}

    def _generate_examples(self, number: int, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(vars(self.builder_config)[split]):
            yield index, self.drawn(np.random.default_rng([SEED, number, index]), split)
