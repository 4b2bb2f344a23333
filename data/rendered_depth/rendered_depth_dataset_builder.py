"""TFDS builder of `rendered_depth`, with the features of TFDS's own `nyu_depth_v2`: `image` and `depth`, in metres."""

from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from data.images.pictures import png
from data.rendered_depth.rendering import HEIGHT, WIDTH, rendered
from data.scenes.demo_builder import TINY, Amount, DemoBuilder


class Builder(DemoBuilder):
    """Rooms with spheres and boxes."""

    BUILDER_CONFIGS = [Amount(name="full", train=3_000, validation=300), TINY]  # noqa: RUF012 (TFDS declares it so)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="png"),
            "depth": tfds.features.Tensor(shape=(HEIGHT, WIDTH), dtype=np.float32),
        }
        return self.about(features, "Rendered rooms, and the depth of each pixel in metres, 0 behind their window.")

    def drawn(self, random: np.random.Generator, split: str) -> dict[str, Any]:
        room = rendered(random)
        return {"image": png(room.picture), "depth": room.depth}
