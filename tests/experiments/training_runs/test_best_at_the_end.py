"""A run that names a figure leaves the model of the checkpoint where that was best, and what is measured of it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation.evaluation import Best
from experiments.assembly.assemble import assemble
from experiments.campaigns.equality import end_differences
from experiments.commands.evaluate import restored
from experiments.commands.train import train
from experiments.experiment import Experiment, Phase
from models import hub
from tests.experiments.small import small
from tests.experiments.training_runs.test_processes import close_to, end, start
from tests.experiments.training_runs.test_runs import command, lacuna
from training.metrics import read_metrics

pytestmark = pytest.mark.slow

HIGHEST = Best("masked_lm_loss", more_is_better=True)
"""A loss falls: the first checkpoint has the highest."""
FLAGS = ["--best.figure", "masked_lm_loss", "--best.more-is-better", "--evaluate-every", "5"]


@pytest.fixture(scope="module")
def run(texts, tmp_path_factory) -> Experiment:
    """A finished one, whose second phase trains the biases of layers alone, with other moments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LACUNA_CACHE", str(tmp_path_factory.mktemp("cache")))
        one = small()
        phases = (one.phases[0], Phase(0.25, one.phases[1].form, "layers/.*bias"))
        data = dataclasses.replace(one.data, source=str(texts))
        folder = str(tmp_path_factory.mktemp("run"))
        one = dataclasses.replace(one, data=data, best=HIGHEST, evaluate_every=5, phases=phases, folder=folder)
        train(one, "")
        yield one


def ended(folder: Path, step: int) -> None:
    """Check that the model and what is measured are of a step."""
    result = json.loads((folder / "result.json").read_text())
    lines = {line["step"]: line for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "held_out"}
    assert result["model_step"] == step and result["steps"] == 20
    measured = {name: lines[step][name] for name in result["held_out"]}
    assert result["held_out"] == pytest.approx(measured, rel=1e-6)  # on other devices, sums round otherwise
    assert lines[5]["masked_lm_loss"] == max(line["masked_lm_loss"] for line in lines.values()) and len(lines) == 4
    card = (folder / "model/README.md").read_text()
    assert f"- steps: {step}\n" in card and f"| {lines[step]['masked_lm_loss']:.4g} |" in card
    assert f"measured after step {step} " in (folder / "report.html").read_text()


def test_the_model_is_of_the_best_checkpoint_and_so_are_the_figures(run, capsys):
    ended(run.run_folder, 5)
    _, exported = hub.load(run.run_folder / "model")
    assembly = assemble(run)
    state, step = restored(assembly, "best")
    kernels = (
        tree["params"]["bert"]["pooler"]["kernel"] for tree in (exported, assembly.spread.gather(state.variables))
    )
    np.testing.assert_array_equal(*kernels)
    assert step == 5
    train(run, "")  # it is done, and says so
    assert "after 5 steps" in capsys.readouterr().out


def test_a_run_that_died_behind_its_last_step_ends_the_same(run, tmp_path, capsys):
    folder = shutil.copytree(run.run_folder, tmp_path / "run")
    (folder / "result.json").unlink(), shutil.rmtree(folder / "model")
    train(dataclasses.replace(run, folder=str(folder)), "")
    assert end_differences(run.run_folder, folder) == []
    assert "of step 5, whose masked_lm_loss is the best" in capsys.readouterr().err


def test_a_damaged_best_checkpoint_leaves_the_last(run, tmp_path, capsys):
    folder = shutil.copytree(run.run_folder, tmp_path / "run")
    (folder / "result.json").unlink()
    (folder / "checkpoints/5/more").write_text("")
    train(dataclasses.replace(run, folder=str(folder)), "")
    ended(folder, 20)
    assert "step 5, the best by masked_lm_loss, is passed over: more is not of it" in capsys.readouterr().err


def test_without_a_figure_it_is_the_last(run, tmp_path):
    folder = shutil.copytree(run.run_folder, tmp_path / "run")
    (folder / "result.json").unlink()
    train(dataclasses.replace(run, folder=str(folder), best=Best()), "")
    ended(folder, 20)


def test_two_processes_leave_what_one_does(texts, environment, tmp_path):
    codes, said = end(start(command(texts, tmp_path / "two", *FLAGS), 2, environment))
    assert codes == [0, 0], said
    folder = shutil.copytree(tmp_path / "two", tmp_path / "one")
    (folder / "result.json").unlink(), shutil.rmtree(folder / "model")
    alone = lacuna(command(texts, folder, *FLAGS), environment)
    assert alone.returncode == 0, alone.stderr
    for name in ("one", "two"):
        ended(tmp_path / name, 5)
    close_to(tmp_path / "one", tmp_path / "two")
