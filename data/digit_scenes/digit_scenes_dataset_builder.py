"""TFDS builder of `digit_scenes`: photographs with handwritten digits, the box, class and mask of each.

It needs no TensorFlow: `Builder(file_format="array_record")`. (Where there is one, `tfds build data/digit_scenes
--file_format=array_record` works, too.)
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from data.digit_scenes.composing import composed, material
from data.images.pictures import png

SEED = 0
SPLITS = ("train", "validation")


@dataclasses.dataclass(kw_only=True)
class Amount(tfds.core.BuilderConfig):
    """How many there are to train on, and to hold out."""

    train: int
    validation: int


class Builder(tfds.core.GeneratorBasedBuilder):
    """Scenes of one to five digits. A scene is a function of the seed, its split and its number."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    BUILDER_CONFIGS = [  # noqa: RUF012
        Amount(name="full", train=4_000, validation=400),
        Amount(name="tiny", train=48, validation=16),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "segments": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(map(str, range(10))))),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits on parts of photographs. A pixel of `segments` has the number of its digit, from 1"
            " on, and 0 where there is none; `labels` are in the order of the numbers.",
            features=tfds.features.FeaturesDict(features),
            homepage="https://scikit-learn.org",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(number, split) for number, split in enumerate(SPLITS)}

    def _generate_examples(self, number: int, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        parts = material(held_out=split != "train")
        for index in range(vars(self.builder_config)[split]):
            scene = composed(np.random.default_rng([SEED, number, index]), parts)
            yield (
                index,
                {"image": png(scene.picture), "segments": png(scene.segments), "labels": scene.labels.tolist()},
            )
