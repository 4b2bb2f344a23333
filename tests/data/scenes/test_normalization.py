"""Pictures on the device: normalised, their padding exactly 0, for whatever objective reads them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import DataError
from data.forms import SceneForm
from data.scenes.normalization import Normalization
from data.scenes.source import Scenes
from objectives import Augmented
from objectives.images.depth import Depth


def test_padding_is_0_and_pixels_are_normalised() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    mask = np.zeros((6, 8), np.int32)
    mask[:4, :5] = 1
    example = {"pixel_values": jnp.asarray(pixels), "pixel_mask": jnp.asarray(mask)}
    normalization = Normalization(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.5))
    seen = normalization(jax.random.key(0), example, True)["pixel_values"]
    right = (pixels[:4, :5] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.5]
    np.testing.assert_allclose(seen[:4, :5], right, atol=1e-6)
    assert not np.asarray(seen[4:]).any() and not np.asarray(seen[:, 5:]).any()
    with pytest.raises(DataError, match="a positive deviation"):
        Normalization(image_std=(1.0, 0.0, 1.0))


def test_an_objective_on_scenes_reads_what_the_source_gives() -> None:
    source = Scenes()
    objective = Augmented(Depth(), source.augmentation)
    form = SceneForm((8, 8), objects=0).read_by(objective)
    assert set(objective.reads) <= set(source.blank(form))
