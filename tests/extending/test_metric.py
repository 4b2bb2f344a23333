"""A metric of one's own: one new file beside the recipe that uses it, and nothing else; it decides which checkpoint is best."""

import json
from pathlib import Path

import pytest

from tests.experiments.training_runs.test_runs import lacuna, python_m
from training.metrics import read_metrics

FILE = '''
"""Balanced accuracy as a metric of one's own, and a small recipe that is judged by it."""

import dataclasses

from sklearn.metrics import balanced_accuracy_score

from evaluation.evaluation import Best, Evaluation
from evaluation.metric import Metric
from experiments.experiment import Experiment
from tests.experiments.small_images import small
from training.optimizers import AdamW


@dataclasses.dataclass(frozen=True)
class BalancedAccuracy(Metric):
    """The mean over classes of how many of their examples are recognised."""

    asks = ("logits",)
    reads = ("labels",)
    figures = ("balanced_accuracy",)

    def update(self, outputs, batch):
        return {"guesses": outputs["logits"].argmax(axis=-1), "labels": batch["labels"]}

    def compute(self, state):
        return {"balanced_accuracy": float(balanced_accuracy_score(state["labels"], state["guesses"]))}


def recipe() -> Experiment:
    return dataclasses.replace(
        small(),
        steps=24,
        evaluate_every=3,
        keep_checkpoints=2,
        average_decay=None,
        optimizer=AdamW(learning_rate=2e-2, warmup_steps=1),
        evaluations=(
            Evaluation("often", (BalancedAccuracy(),), every=3, examples=64),
            Evaluation("others", (BalancedAccuracy(),), data=dataclasses.replace(small().data, held_out=0.01), every=12),
        ),
        best=Best("often/balanced_accuracy", more_is_better=True),
    )
'''


@pytest.mark.slow
def test_a_metric_of_one_file_decides_which_checkpoint_is_best(environment, tmp_path: Path):
    file, folder = tmp_path / "balanced.py", tmp_path / "run"
    file.write_text(FILE)
    done = lacuna([*python_m("train"), str(file), "--folder", str(folder)], environment)
    assert done.returncode == 0, done.stderr

    lines = read_metrics(folder / "metrics.jsonl")
    steps = {
        split: [line["step"] for line in lines if line["split"] == split] for split in ("often", "held_out", "others")
    }
    assert steps == {"often": [*range(3, 25, 3)], "held_out": [*range(3, 25, 3)], "others": [12, 24]}
    figures = {line["step"]: line["balanced_accuracy"] for line in lines if line["split"] == "often"}
    assert len(set(figures.values())) > 2, "it moves"

    result = json.loads((folder / "result.json").read_text())
    first_best = next(step for step in figures if figures[step] == max(figures.values()))
    assert result["best_step"] == result["model_step"] == first_best
    kept = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert kept == sorted({first_best, 21, 24})

    often = result["evaluations"]["often"]
    low, high = often["intervals"]["balanced_accuracy"]
    assert low <= often["balanced_accuracy"] == figures[first_best] <= high and low < high

    asked = lacuna([*python_m("evaluate"), str(file), "--folder", str(folder), "--checkpoint", "best"], environment)
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    assert said["step"] == first_best
    assert said["evaluations"]["often"]["balanced_accuracy"] == max(figures.values())


def test_one_that_does_not_fit_is_refused_in_a_sentence(environment, tmp_path: Path):
    file = tmp_path / "balanced.py"
    file.write_text(FILE.replace('asks = ("logits",)', 'asks = ("pred_boxes",)'))
    done = lacuna([*python_m("train"), str(file), "--folder", str(tmp_path / "run")], environment)
    assert done.returncode == 2 and "wants pred_boxes; the model gives" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
