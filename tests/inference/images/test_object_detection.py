"""Objects of pictures: boxes in pixels, of pictures with padding and without, and a pipeline on a folder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.scenes.processor import SceneProcessor
from inference.pipeline import pipeline
from inference.tasks.object_detection import ObjectDetection, detections
from models import hub
from models.config import ModelError
from models.detr import DetrConfig, DetrForObjectDetection
from tests.models.small_configs import SMALL

EDGES = ("xmin", "ymin", "xmax", "ymax")


def logits(*probabilities: float) -> np.ndarray:
    """Of queries that are so sure of class 1 of 2, and else of none."""
    rows = [[1e-9, p, 1 - p - 1e-9] for p in probabilities]
    return np.log(rows)


def test_boxes_are_cut_off_at_the_picture_and_the_surest_comes_first():
    boxes = np.array([[0.5, 0.5, 0.5, 0.2], [0.1, 0.5, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]])
    found = detections(logits(0.6, 0.9, 0.7), boxes, (100, 200))
    assert found.queries.tolist() == [1, 2, 0] and found.labels.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[0, 30, 60, 70], [0, 0, 200, 100], [50, 40, 150, 60]], atol=1e-9)
    whole = detections(logits(0.9), boxes[1:2], (100, 200), clipped=False)
    np.testing.assert_allclose(whole.boxes, [[-20, 30, 60, 70]], atol=1e-9)


def test_boxes_of_a_picture_that_was_padded_are_those_of_the_picture():
    """A picture of 100 × 130 pixels beside one of 180 × 160: boxes are fractions of the canvas that holds both."""
    box = np.array([[65 / 160, 50 / 180, 130 / 160, 100 / 180]])
    found = detections(logits(0.9), box, (100, 130), shown=(100 / 180, 130 / 160))
    np.testing.assert_allclose(found.boxes, [[0, 0, 130, 100]], atol=1e-9)
    half = detections(logits(0.9), box, (50, 65), shown=(100 / 180, 130 / 160))
    np.testing.assert_allclose(half.boxes, [[0, 0, 65, 50]], atol=1e-9)


def test_a_score_of_the_threshold_is_left_out():
    found = detections(np.log([[0.5, 0.25, 0.25]]), np.full((1, 4), 0.5), (10, 10))
    assert len(found.surer_than(found.scores[0]).scores) == 0
    assert len(found.surer_than(found.scores[0] - 1e-9).scores) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector that was not trained, and pictures that are resized to 48 pixels."""
    path = tmp_path_factory.mktemp("detr")
    config = DetrConfig.from_json(SMALL["detr"], labels=("cat", "dog"))
    model = DetrForObjectDetection(config)
    variables = nn.unbox(jax.jit(lambda: model.init(jax.random.key(0), **model.blank()))())
    hub.save(path, model, variables)
    SceneProcessor(shortest=48, longest=96).write(path)
    return path


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((60, 80), (60, 80), (90, 50))]


def test_a_pipeline_says_what_is_where(folder):
    ask = pipeline(ObjectDetection(threshold=0.0), folder)
    together = ask(pictures())
    assert [len(found) for found in together] == [4, 4, 4]
    for picture, found in zip(pictures(), together, strict=True):
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True)
        for one, alone in zip(found, ask(picture), strict=True):
            assert one["label"] == alone["label"] in ("cat", "dog")
            np.testing.assert_allclose(one["score"], alone["score"], rtol=1e-4)
            box = [one["box"][edge] for edge in EDGES]
            np.testing.assert_allclose(box, [alone["box"][edge] for edge in EDGES], atol=1e-2)
            assert 0 <= box[0] <= box[2] <= picture.shape[1] and 0 <= box[1] <= box[3] <= picture.shape[0]
    assert ask(pictures()[0], threshold=1.0) == []
    assert len(ask(pictures()[0], top_k=2)) == 2


def test_the_boxes_are_the_models(folder):
    picture = pictures()[0]
    model, variables = hub.load(folder)
    processor = SceneProcessor.read(folder, "detr")
    inputs = {name: jnp.asarray(x) for name, x in processor.batch([processor.pixels(picture)]).items()}
    outputs = model.apply(variables, **inputs)
    chance = np.asarray(jax.nn.softmax(outputs.logits[0]))[:, :-1]
    best = int(chance.max(axis=1).argmax())
    x, y, width, height = np.asarray(outputs.pred_boxes[0, best])
    (found,) = pipeline(ObjectDetection(threshold=0.0, top_k=1), folder)(picture)
    expected = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * [80, 60, 80, 60]
    np.testing.assert_allclose(
        [found["box"][edge] for edge in EDGES], np.clip(expected, 0, [80, 60, 80, 60]), atol=1e-3
    )


def test_where_it_looks_is_a_picture(folder, tmp_path):
    ask = pipeline(ObjectDetection(threshold=0.0, top_k=3, explanation=tmp_path / "looks.png"), folder)
    ask(pictures()[0])
    with Image.open(tmp_path / "looks.png") as image:
        assert image.size == (2 * 64, 3 * 48)  # the picture and a map beside it, one below the other
    with pytest.raises(ModelError, match="an explanation is of one picture"):
        ask(pictures())
    with pytest.raises(ModelError, match="nothing to explain"):
        ask(pictures()[0], threshold=1.0)


def test_other_models_are_refused():
    model = hub.model_class("resnet", "ResNetForImageClassification")(
        hub.config_class("resnet").from_json(SMALL["resnet"])
    )
    with pytest.raises(ModelError, match="object-detection asks for"):
        ObjectDetection().check(model)
    with pytest.raises(ModelError, match="expected a probability"):
        ObjectDetection(threshold=2.0)
