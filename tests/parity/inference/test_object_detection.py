"""Boxes held against the post-processing and the pipeline of `transformers`."""

import numpy as np
import pytest

from data.scenes.processor import SceneProcessor
from inference.pipeline import pipeline
from inference.tasks.object_detection import ObjectDetection, detections
from tests.parity.images.test_detr import reference
from tests.parity.reference import torch, transformers

EDGES = ("xmin", "ymin", "xmax", "ymax")


def test_objects_are_those_of_post_processing():
    """Scores, labels and boxes, these not cut off, in the order of the queries."""
    rng = np.random.default_rng(0)
    logits, boxes = rng.normal(size=(3, 20, 6)) * 3, rng.random((3, 20, 4))
    sizes = [(100, 200), (333, 77), (480, 640)]
    outputs = transformers.models.detr.modeling_detr.DetrObjectDetectionOutput(
        logits=torch.tensor(logits), pred_boxes=torch.tensor(boxes)
    )
    processor = transformers.DetrImageProcessor()
    expected = processor.post_process_object_detection(outputs, threshold=0.5, target_sizes=sizes)
    for row, theirs in enumerate(expected):
        found = detections(logits[row], boxes[row], sizes[row], clipped=False).surer_than(0.5)
        order = np.argsort(found.queries)
        assert len(order) == len(theirs["scores"]) > 0
        np.testing.assert_array_equal(found.labels[order], theirs["labels"])
        np.testing.assert_allclose(found.scores[order], theirs["scores"], rtol=1e-4)
        np.testing.assert_allclose(found.boxes[order], theirs["boxes"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(80, 60), (50, 120)])
def test_a_pipeline_finds_what_theirs_finds(size, tmp_path):
    model = reference("DetrForObjectDetection")
    model.save_pretrained(tmp_path)
    SceneProcessor(shortest=64, longest=96).write(tmp_path)
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    inputs = processor(images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size])
    found = pipeline(ObjectDetection(threshold=0.0), tmp_path)(picture)
    order = np.argsort(-theirs["scores"].numpy(), kind="stable")
    limits = np.tile(size[::-1], 2)
    for one, number in zip(found, order, strict=True):
        assert one["label"] == model.config.id2label[int(theirs["labels"][number])]
        np.testing.assert_allclose(one["score"], theirs["scores"][number], rtol=1e-3)
        box = np.clip(theirs["boxes"][number].numpy(), 0, limits)
        np.testing.assert_allclose([one["box"][edge] for edge in EDGES], box, atol=0.05)


def test_segments_of_a_detector_are_those_of_post_processing(tmp_path):
    """Masks of a picture go straight to its size."""
    rng = np.random.default_rng(2)
    model, size = reference("DetrForSegmentation"), (80, 60)
    model.save_pretrained(tmp_path)
    SceneProcessor(shortest=64, longest=96).write(tmp_path)
    picture = rng.integers(0, 256, (*size, 3), np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        outputs = model(**processor(images=picture, return_tensors="pt"))
    settings = dict(threshold=0.2, mask_threshold=0.1, overlap_mask_area_threshold=0.1)
    (theirs,) = processor.post_process_panoptic_segmentation(outputs, **settings, target_sizes=[size])
    found = pipeline("image-segmentation", tmp_path)(picture, **settings)
    assert len(found) == len(theirs["segments_info"]) > 0
    for one, its in zip(found, theirs["segments_info"], strict=True):
        assert one["label"] == model.config.id2label[its["label_id"]]
        assert abs(one["score"] - its["score"]) < 1e-4
        mask = theirs["segmentation"].numpy() == its["id"]
        assert ((np.asarray(one["mask"]) > 0) != mask).mean() < 0.01
