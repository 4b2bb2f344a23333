"""A source of one's own: one new file beside the recipe that uses it, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.assembly.assemble import assemble
from experiments.experiment import load
from tests.experiments.training_runs.test_runs import lacuna, python_m

FILE = '''
"""Disks and squares that are drawn when they are asked for."""

import dataclasses

import numpy as np

from data.contract import Classes, Examples, Prepared, Source
from data.forms import ImageForm
from data.images.augmentation import Augmentation
from experiments.experiment import Experiment
from tests.experiments.small_images import classified
from training.optimizers import AdamW


@dataclasses.dataclass(frozen=True)
class Shapes(Source):
    """Each its own picture.

    Attributes:
        count: how many there are.
    """

    documents = "shapes"
    forms = ImageForm
    augmentation = Augmentation(flip=0.0)

    count: int = 400

    def prepare(self, size, folder, say, needs=()):
        items = np.arange(self.count)
        held_out = items[: round(self.count * self.held_out)]
        names = Classes(("disk", "square"))
        return PreparedShapes(names, f"shapes {self.count}", np.setdiff1d(items, held_out), held_out)


class PreparedShapes(Prepared):
    def examples(self, items, form, seed):
        return Drawn(numbers=items, form=form, seed=seed)

    def adapt(self, config, start=None):
        return dataclasses.replace(config, labels=self.vocabulary.labels)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Drawn(Examples):
    numbers: np.ndarray

    def __len__(self):
        return len(self.numbers)

    def at(self, items, indices, form):
        drawn = [self.draw(number, form.size) for number in self.numbers[items]]
        return {"pixel_values": np.stack(drawn), "labels": (self.numbers[items] % 2).astype(np.int32)}

    def draw(self, number, size):
        generator = np.random.default_rng(number)
        half, centre = generator.uniform(2, 4), generator.uniform(4, size - 4, 2)
        away = np.abs(np.indices((size, size)) - centre[:, None, None])
        inside = away.max(0) < half if number % 2 else np.hypot(*away) < half
        return np.where(inside[..., None], np.uint8(250 if number % 2 else 130), generator.integers(0, 60, 3, np.uint8))


def recipe() -> Experiment:
    return dataclasses.replace(
        classified(), name="shapes", data=Shapes(), steps=60, batch_size=32, evaluate_every=30, checkpoint_every=60,
        optimizer=AdamW(learning_rate=3e-3, warmup_steps=2),
    )
'''


@pytest.mark.slow
def test_a_source_of_one_file_is_trained_on_and_its_classes_are_the_model_s(environment, tmp_path: Path):
    file, folder = tmp_path / "shapes.py", tmp_path / "run"
    file.write_text(FILE)
    done = lacuna([*python_m("train"), str(file), "--folder", str(folder), "--data.workers", "2"], environment)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["corpus"] == {"of": "shapes", "training": 380, "held_out": 20}
    assert result["held_out"]["top_1_accuracy"] > 0.7
    assert json.loads((folder / "model/config.json").read_text())["id2label"] == {"0": "disk", "1": "square"}


def test_its_examples_are_those_of_the_run_s_seed_each_once_an_epoch(tmp_path: Path):
    """The contract gives what a source does not write: order, epochs, places in the run."""
    file = tmp_path / "shapes.py"
    file.write_text(FILE)
    assembly = assemble(load(str(file)))
    stream = assembly.data.training(assembly.form(0), 7)
    epochs = [np.array([stream.items(np.array([index]))[0] for index in range(380 * n, 380 * (n + 1))]) for n in (0, 1)]
    assert all(sorted(epoch) == list(range(380)) for epoch in epochs) and (epochs[0] != epochs[1]).any()
    batch = stream.batch(np.array([5, 385]))
    assert (batch["pixel_values"][1] == stream[385]["pixel_values"]).all() and batch["index"].tolist() == [5, 385]
