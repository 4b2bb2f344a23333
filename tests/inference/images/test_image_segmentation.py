"""Segments of pictures against the model that is asked, without a reference implementation."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.scenes.processor import SceneProcessor
from inference import segments
from inference.pipeline import pipeline
from inference.tasks.image_segmentation import ImageSegmentation
from models import hub
from models.config import ModelError
from models.mask2former import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from models.mask2former.config import STAGES
from models.resnet import ResNetConfig

CONFIG = Mask2FormerConfig(
    backbone_config=ResNetConfig(embedding_size=4, hidden_sizes=(4, 4, 6, 8), depths=(1,) * 4, out_features=STAGES),
    feature_size=32,
    mask_feature_size=8,
    hidden_dim=16,
    num_attention_heads=2,
    encoder_layers=1,
    encoder_feedforward_dim=8,
    decoder_layers=2,
    dim_feedforward=8,
    num_queries=5,
    labels=("sky", "dog", "car"),
)
EVERYTHING = dict(threshold=0.0, overlap_mask_area_threshold=0.0, mask_threshold=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask2former")
    model = Mask2FormerForUniversalSegmentation(CONFIG)
    variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    hub.save(path, model, jax.tree.map(lambda x: x + 0.1, variables))
    SceneProcessor("Mask2FormerImageProcessor", shortest=64, longest=96, size_divisor=32).write(path)
    return path


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (64, 64), (41, 60))]


def test_classes_are_the_models_at_the_size_of_the_picture(folder):
    model, variables = hub.load(folder)
    ask = pipeline("image-segmentation", folder)
    picture = pictures()[0]
    found = ask(picture, subtask="semantic", through=0)
    values = SceneProcessor.read(folder).values(picture)[None]
    outputs = model.apply(variables, jnp.asarray(values))
    scores, masks = (np.asarray(outputs[name][0]) for name in ("class_queries_logits", "masks_queries_logits"))
    classes = segments.semantic(scores, masks, (64, 64), None)
    assert {one["label"] for one in found} == {CONFIG.labels[label] for label in np.unique(classes)}
    for one in found:
        assert one["score"] is None
        np.testing.assert_array_equal(np.asarray(one["mask"]) == 255, classes == CONFIG.labels.index(one["label"]))


@pytest.mark.parametrize("subtask", ["panoptic", "instance", "semantic"])
def test_together_as_alone(folder, subtask):
    ask = pipeline("image-segmentation", folder)
    together = ask(pictures(), subtask=subtask, **EVERYTHING)
    for found, picture in zip(together, pictures(), strict=True):
        alone = ask(picture, subtask=subtask, **EVERYTHING)
        assert [x["label"] for x in found] == [x["label"] for x in alone]
        for one, other in zip(found, alone, strict=True):
            assert isinstance(one["mask"], Image.Image) and one["mask"].mode == "L"
            assert one["mask"].size == (picture.shape[1], picture.shape[0])
            assert (np.asarray(one["mask"]) == np.asarray(other["mask"])).mean() > 0.999


def test_a_pixel_has_one_panoptic_segment_and_fused_classes_are_one(folder):
    ask = pipeline("image-segmentation", folder)
    found = ask(pictures()[0], **EVERYTHING)
    assert sum(np.asarray(one["mask"]) // 255 for one in found).max() == 1
    fused = ask(pictures()[0], fuse=("sky", "dog", "car"), **EVERYTHING)
    by_label: dict[str, np.ndarray] = {}
    for one in fused:
        np.testing.assert_array_equal(by_label.setdefault(one["label"], np.asarray(one["mask"])), one["mask"])


def test_what_is_printed_counts_pixels(folder):
    task = ImageSegmentation()
    mask = Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8))
    line = task.printed([{"score": 0.5, "label": "dog", "mask": mask}])
    assert json.loads(line) == [{"score": 0.5, "label": "dog", "pixels": 3}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(subtask="things"), "expected panoptic"),
        (dict(threshold=1.5), "between 0 and 1"),
        (dict(through=-1), "or 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        ImageSegmentation(**settings)


def test_a_class_that_is_not_there_is_named(folder):
    with pytest.raises(ModelError, match="no class 'dogs': did you mean 'dog'"):
        pipeline(ImageSegmentation(fuse=("dogs",)), folder)


def test_thin_segments_are_lost_at_the_resolution_of_transformers_alone():
    """A row of 1,024 between two rows of 384."""
    scores = np.full((2, 3), -10.0, np.float32)
    scores[0, 0] = scores[1, 1] = 10
    masks = np.full((2, 1_024, 4), -10.0, np.float32)
    masks[0], masks[1, 514] = 1, 10
    assert not (segments.semantic(scores, masks, (1_024, 4)) == 1).any()
    assert (segments.semantic(scores, masks, (1_024, 4), None)[514] == 1).all()
