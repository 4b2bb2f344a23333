"""Whole runs of a detector through the command line: killed and resumed, begun with a backbone, asked."""

import json
import signal
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from experiments.campaigns.equality import differences
from inference.pipeline import pipeline
from models import hub
from models.resnet import ResNetConfig, ResNetForImageClassification
from tests.experiments.training_runs.test_runs import lacuna, python_m, start_and_signal

pytestmark = pytest.mark.slow

SMALL = str(Path(__file__).parents[1] / "small_scenes.py")


def command(folder: Path, *arguments: str, verb: str = "train") -> list[str]:
    return [*python_m(verb), SMALL, "--folder", str(folder), *arguments]


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    done = lacuna(command(folder), environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("step", [5, 9])
def test_killed_it_goes_on_to_the_bit(environment, undisturbed, tmp_path, step):
    """In both phases; parameters, running statistics, numbers and digests of the examples."""
    process = start_and_signal(command(tmp_path), environment, tmp_path, step, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = lacuna(command(tmp_path, "--data.workers", "1"), environment)
    assert resumed.returncode == 0 and "going on after step" in resumed.stderr, resumed.stderr
    assert differences(undisturbed, tmp_path) == []


def test_a_finished_run_is_complete(undisturbed):
    result = json.loads((undisturbed / "result.json").read_text())
    assert {"class_loss", "auxiliary_giou_loss", "cardinality_error"} <= set(result["held_out"])
    boxes = result["evaluations"]["boxes"]
    assert 0 <= boxes["box_ap"] <= boxes["box_ap50"] <= 1
    assert "<figure><img src='data:image/png;base64," in (undisturbed / "report.html").read_text()
    about = json.loads((undisturbed / "model" / "preprocessor_config.json").read_text())
    assert about["image_processor_type"] == "DetrImageProcessor"


def test_its_model_finds_objects(undisturbed):
    picture = np.random.default_rng(0).integers(0, 256, (100, 80, 3), np.uint8)
    found = pipeline("object-detection", undisturbed / "model")(picture, threshold=0.0)
    assert len(found) == 6 and {"score", "label", "box"} == found[0].keys()


def test_a_run_begins_with_a_backbone_that_was_trained_before(environment, tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=(8, 24), depths=(1, 2), layer_type="basic")
    classifier = ResNetForImageClassification(config)
    variables = nn.unbox(jax.jit(lambda: classifier.init(jax.random.key(3), **classifier.blank()))())
    hub.save(tmp_path / "resnet", classifier, variables)
    done = lacuna(command(tmp_path / "run", "--initial-model", str(tmp_path / "resnet"), "--steps", "4"), environment)
    assert done.returncode == 0, done.stderr
    model, after = hub.load(tmp_path / "run" / "model")
    assert model.config.backbone_config.hidden_sizes == (8, 24)
    before = variables["params"]["resnet"]["stage_1_first"]["conv_0"]["convolution"]["kernel"]
    now = after["params"]["model"]["backbone"]["stage_1_first"]["conv_0"]["convolution"]["kernel"]
    assert 0 < float(np.abs(before - now).max()) < 0.01, "a few steps from where it was"
