"""TFDS builder of `rendered_depth`, with the features of TFDS's own `nyu_depth_v2`: `image` and `depth`, in metres.

It needs no TensorFlow: `Builder(file_format="array_record")`. (Where there is one, `tfds build data/rendered_depth
--file_format=array_record` works, too.)
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from data.images.pictures import png
from data.rendered_depth.rendering import HEIGHT, WIDTH, rendered

SEED = 0
SPLITS = ("train", "validation")


@dataclasses.dataclass(kw_only=True)
class Amount(tfds.core.BuilderConfig):
    """How many there are to train on, and to hold out."""

    train: int
    validation: int


class Builder(tfds.core.GeneratorBasedBuilder):
    """Rooms with spheres and boxes. A room is a function of the seed, its split and its number."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    BUILDER_CONFIGS = [  # noqa: RUF012
        Amount(name="full", train=3_000, validation=300),
        Amount(name="tiny", train=48, validation=16),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="png"),
            "depth": tfds.features.Tensor(shape=(HEIGHT, WIDTH), dtype=np.float32),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Rendered rooms, and the depth of each pixel in metres, 0 behind their window.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(number, split) for number, split in enumerate(SPLITS)}

    def _generate_examples(self, number: int, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(vars(self.builder_config)[split]):
            room = rendered(np.random.default_rng([SEED, number, index]))
            yield index, {"image": png(room.picture), "depth": room.depth}
