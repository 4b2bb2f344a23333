"""Whole runs of image experiments through the command line: killed and resumed, fine-tuned, explained, asked, refused."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.campaigns.equality import differences
from tests.experiments.training_runs.test_runs import lacuna, python_m, start_and_signal

pytestmark = pytest.mark.slow

SMALL = str(Path(__file__).parents[1] / "small_images.py")


def command(folder: Path, *arguments: str, verb: str = "train", variant: str = "small") -> list[str]:
    return [*python_m(verb), f"{SMALL}:{variant}", "--folder", str(folder), *arguments]


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    done = lacuna(command(folder), environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def masked(environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    done = lacuna(command(folder, variant="masked"), environment)
    assert done.returncode == 0, done.stderr
    return folder


def test_killed_it_goes_on_to_the_bit(environment, undisturbed, tmp_path):
    """Parameters, running statistics, the average, numbers and digests of the examples."""
    process = start_and_signal(command(tmp_path), environment, tmp_path, 7, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = lacuna(command(tmp_path, "--data.workers", "1"), environment)
    assert resumed.returncode == 0 and "going on after step" in resumed.stderr, resumed.stderr
    assert differences(undisturbed, tmp_path) == []


def test_a_finished_run_is_complete(undisturbed):
    result = json.loads((undisturbed / "result.json").read_text())
    held_out = result["held_out"]
    assert {"loss", "top_1_accuracy", "average_loss", "average_top_1_accuracy"} <= set(held_out)
    assert result["items"] == "images" and result["items_per_step"] == 8
    assert result["baselines"]["classification_loss"]["count"] == 30, "the last batch is evaluated, too"
    page = (undisturbed / "report.html").read_text()
    assert page.count("<figure><img src='data:image/png;base64,") == 24 and "<svg" in page
    about = json.loads((undisturbed / "model" / "preprocessor_config.json").read_text())
    assert about["size"] == {"shortest_edge": 32}
    names = json.loads((undisturbed / "model" / "config.json").read_text())["id2label"]
    assert list(names.values()) == list("0123456789")


def test_masked_pictures_are_shown_with_their_gaps(masked):
    page = (masked / "report.html").read_text()
    assert page.count("<figure>") == 24
    assert "masked_image_loss" in json.loads((masked / "result.json").read_text())["held_out"]


def test_fine_tuning_takes_the_encoder_at_another_size(environment, masked, tmp_path):
    """Positions are resized from 16 to 24 pixels, the head is new, and what is there is taken."""
    from models import hub

    arguments = ["--initial-model", str(masked / "model"), "--steps", "2"]
    done = lacuna(command(tmp_path, *arguments, variant="classified"), environment)
    assert done.returncode == 0, done.stderr
    assert "freshly initialised" in done.stderr and "classifier" in done.stderr
    _, before = hub.load(masked / "model")
    _, after = hub.load(tmp_path / "model")
    kernels = [x["params"]["vit"]["layers"]["up"]["kernel"] for x in (before, after)]
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < 0.01, "two steps from where it was"
    shapes = [x["params"]["vit"]["position_embeddings"].shape for x in (before, after)]
    assert shapes == [(1, 17, 16), (1, 37, 16)]


def test_explain_saves_the_picture_before_and_after(environment, tmp_path):
    said = lacuna(command(tmp_path, "--example", "3", verb="explain"), environment)
    assert said.returncode == 0, said.stderr
    assert re.search(r"labels \d: \d", said.stdout) and re.search(r"mix [01]\.", said.stdout)
    with Image.open(tmp_path / "example-3.png") as picture:
        assert picture.width > 3 * picture.height, "two pictures that are mixed, and the mixture"


def test_the_model_answers(environment, undisturbed, tmp_path):
    Image.fromarray(np.full((9, 7), 200, np.uint8)).save(tmp_path / "grey.png")
    arguments = [*python_m("predict"), "image-classification", str(tmp_path / "grey.png")]
    said = lacuna([*arguments, "--model", str(undisturbed / "model")], environment)
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout)
    assert set(answer[0]) == {"label", "score"} and answer[0]["label"] in "0123456789"


def test_evaluation_on_pictures_from_elsewhere(environment, undisturbed, tmp_path):
    for label in range(10):
        (tmp_path / "mine" / str(label)).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (9, 9), 25 * label).save(tmp_path / "mine" / str(label) / f"{number}.png")
    found = lacuna(command(undisturbed, "--on", str(tmp_path / "mine"), verb="evaluate"), environment)
    assert found.returncode == 0, found.stderr
    here = json.loads((undisturbed / "result.json").read_text())
    there = json.loads(found.stdout)
    assert there["baselines"]["classification_loss"]["count"] == 30, "as many as the experiment asks"
    assert there["held_out"]["loss"] != here["held_out"]["loss"]
    (tmp_path / "mine" / "9").rename(tmp_path / "mine" / "nine")
    refused = lacuna(command(undisturbed, "--on", str(tmp_path / "mine"), verb="evaluate"), environment)
    assert refused.returncode == 2 and "its classes are not those of sklearn_digits" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.source", "nowhere/at/all"], "nowhere/at/all"),
        (["--parallel.micro-batches", "2"], "normalises by the statistics of the whole batch"),
        (["--average-decay", "1.5"], "average_decay=1.5"),
        (["--data.held-out", "1.0"], "held_out=1.0"),
        (["--objective", "MaskedLM"], "needs mask of its vocabulary"),
        (["--objective", "MaskedImage"], "bool_masked_pos"),
    ],
)
def test_what_cannot_be_is_one_sentence(environment, tmp_path, arguments, said):
    found = lacuna(command(tmp_path, *arguments), environment)
    assert found.returncode == 2, found.stderr
    assert said in found.stderr and "Traceback" not in found.stderr
