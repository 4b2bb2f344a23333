"""TFDS builder of `digit_scenes`: photographs with handwritten digits, the box, class and mask of each."""

from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from data.digit_scenes.composing import composed, material
from data.images.pictures import png
from data.scenes.demo_builder import TINY, Amount, DemoBuilder


class Builder(DemoBuilder):
    """Scenes of one to five digits."""

    BUILDER_CONFIGS = [Amount(name="full", train=4_000, validation=400), TINY]  # noqa: RUF012 (TFDS declares it so)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "segments": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(map(str, range(10))))),
        }
        return self.about(
            features,
            "Handwritten digits on parts of photographs. A pixel of `segments` has the number of its digit, from 1 on, and 0"
            " where there is none; `labels` are in the order of the numbers.",
            homepage="https://scikit-learn.org",
        )

    def drawn(self, random: np.random.Generator, split: str) -> dict[str, Any]:
        scene = composed(random, material(held_out=split != "train"))
        return {"image": png(scene.picture), "segments": png(scene.segments), "labels": scene.labels.tolist()}
