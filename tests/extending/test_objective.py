"""An objective of one's own, whose loss is no ratio of two sums: one new file beside its recipe, and nothing else."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.assembly.assemble import assemble
from experiments.experiment import load
from tests.experiments.training_runs.test_runs import lacuna, python_m
from training.metrics import read_metrics

FILE = '''
"""One minus the correlation of the pixels that a model makes with those that it is shown."""

import dataclasses

import jax.numpy as jnp

from experiments.experiment import Experiment
from objectives import Objective
from tests.experiments.small_images import masked


@dataclasses.dataclass(frozen=True)
class Correlation(Objective):
    reads = takes = ("pixel_values",)
    asks = (("reconstruction",),)
    least: float = 1e-6

    def sums(self, outputs, batch):
        made, shown = self.output(outputs).astype(jnp.float32), batch["pixel_values"]
        count = jnp.float32(made.size)
        return {name: x.sum() for name, x in dict(x=made, y=shown, xx=made**2, yy=shown**2, xy=made * shown).items()} | {
            "count": count
        }

    def losses(self, totals):
        x, y, xx, yy, xy = (totals[name] / totals["count"] for name in ("x", "y", "xx", "yy", "xy"))
        spread = jnp.sqrt((xx - x**2) * (yy - y**2) + self.least)
        return {"correlation_loss": 1 - (xy - x * y) / spread}


def recipe() -> Experiment:
    return dataclasses.replace(masked(), name="correlation", objective=Correlation(), steps=40, batch_size=32)
'''


@pytest.mark.slow
def test_it_is_trained_on_the_totals_of_whole_batches(environment, tmp_path: Path):
    """Cut into four, the first batch has the loss that the equation gives for all of it."""
    file, folder = tmp_path / "correlation.py", tmp_path / "run"
    file.write_text(FILE)
    flags = ("--parallel.micro-batches", "4", "--objective.least", "1e-9", "--folder", str(folder))
    done = lacuna([*python_m("train"), str(file), *flags], environment)
    assert done.returncode == 0, done.stderr
    lines = [line["correlation_loss"] for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "train"]
    assert np.mean(lines[-5:]) < lines[0] - 0.1

    assembly = assemble(load(str(file)))
    batch = {name: x.reshape(-1, *x.shape[2:]) for name, x in next(assembly.batches(0, 0)).items()}
    seen = assembly.seen(batch)
    shown = jnp.asarray(seen["pixel_values"])
    variables = assembly.spread.gather(assembly.initial_state().variables)
    made = assembly.student.apply(jax.tree.map(jnp.asarray, variables), pixel_values=shown).reconstruction
    assert lines[0] == pytest.approx(1 - np.corrcoef(np.ravel(made), np.ravel(shown))[0, 1], abs=1e-4)


def test_one_that_does_not_fit_is_refused_in_a_sentence(environment, tmp_path: Path):
    file = tmp_path / "correlation.py"
    file.write_text(FILE.replace('asks = (("reconstruction",),)', 'asks = (("pred_boxes",),)'))
    with pytest.raises(ValueError, match=r"Correlation\(.* asks for pred_boxes, which ViTForMaskedImageModeling does"):
        assemble(load(str(file)))
