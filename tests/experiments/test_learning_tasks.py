"""The campaign of the tasks of texts: what its runs are trained with, on which examples they are scored, what they cost."""

import argparse
import json
import sys

import pytest

from experiments.campaigns import runs
from experiments.campaigns.learning.tasks import (
    LAST,
    PAGE,
    PRETRAIN,
    TASKS,
    WAYS,
    Checkpoints,
    results,
    shape_flags,
    table,
)
from experiments.commands import parse_experiment
from experiments.commands.train import Options
from experiments.experiment import load
from models.bert import BertConfig

BUSY = "import time; begin = time.process_time()\nwhile time.process_time() - begin < {}: pass\n"


@pytest.fixture
def checkpoints(tmp_path):
    for name in ("minilm", "small"):
        (tmp_path / name).mkdir()
    return Checkpoints(tmp_path / "minilm", tmp_path / "small")


def experiment_of(task, flags):
    return parse_experiment("train", [TASKS[task].recipe, *flags], Options)[0]


@pytest.mark.parametrize("task", TASKS)
def test_the_same_network_is_trained_from_scratch(task, checkpoints):
    """With the shape and the tokenizer of the pretrained model, at its steps and rate."""
    alike = ("steps", "batch_size", "phases", "optimizer")
    for of, shape in (("minilm", load(TASKS[task].recipe).model), ("small", load(PRETRAIN).model)):
        tuned = experiment_of(task, WAYS[of].flags(TASKS[task], checkpoints))
        scratch = experiment_of(task, WAYS[f"{of}-scratch"].flags(TASKS[task], checkpoints))
        assert scratch.model == shape and scratch.initial_model is None
        assert scratch.data.tokenizer == str(vars(checkpoints)[of] / "tokenizer.json")
        assert tuned.initial_model == str(vars(checkpoints)[of])
        assert {name: vars(tuned)[name] for name in alike} == {name: vars(scratch)[name] for name in alike}


def test_the_page_has_room_for_each_table():
    page = PAGE.read_text()
    assert all(f"<!-- {name} -->\n" in page and f"<!-- end of {name} -->\n" in page for name in TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_shown_chose_nothing(task):
    """The last state is scored on `test`: no other is measured."""
    experiment = experiment_of(task, LAST)
    assert experiment.data.held_out_split == "test" and experiment.evaluate_every > experiment.steps


def test_shapes_as_flags():
    config = BertConfig.tiny(local_start=True, hidden_dropout_prob=0.25)
    flags = shape_flags(config, BertConfig())
    assert "--model.local-start" in flags and flags[flags.index("--model.hidden-dropout-prob") + 1] == "0.25"
    assert "--model.no-local-start" in shape_flags(BertConfig(), config) and shape_flags(config, config) == []


def test_the_cpu_time_of_all_calls_is_summed(tmp_path, monkeypatch):
    """A call that is stopped counts, one that has nothing left to do does not; what waits does not."""
    folder = tmp_path / "tags" / "small-0"
    script = tmp_path / "experiment.py"

    def call(text):
        script.write_text(text)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        (tmp_path / "python").write_text(f"#!/bin/sh\nexec {executable} {script}\n")
        (tmp_path / "python").chmod(0o755)
        return runs.trained("recipe", folder, [])

    executable = sys.executable
    with pytest.raises(runs.subprocess.CalledProcessError):
        call(BUSY.format(0.5) + "raise SystemExit(3)")
    done = f"import os; os.makedirs({str(folder)!r}, exist_ok=True); open({str(folder / 'result.json')!r}, 'w').write('{{}}')"
    assert call("import time; time.sleep(0.5)\n" + BUSY.format(0.5) + done) == {}
    before = runs.core_minutes(folder)
    assert 1.0 < before * 60 < 1.4
    call(BUSY.format(0.3))
    assert runs.core_minutes(folder) == before


def test_finished_runs_are_shown_and_no_other(tmp_path, checkpoints):
    arguments = argparse.Namespace(material=tmp_path, runs=tmp_path / "runs", seeds=[0, 1, 2], finished=True)
    for seed, accuracy in ((0, 0.5), (2, 0.75)):
        folder = tmp_path / "runs/follows" / f"small-{seed}"
        folder.mkdir(parents=True)
        result = {"held_out": {"accuracy": accuracy}, "parameters": 1_234, "steps": 800}
        (folder / "result.json").write_text(json.dumps(result))
        runs.cpu_file(folder).write_text("30.0\n60.0\n" if seed else "30.0\n")
    found = {way: results("follows", way, checkpoints, arguments) for way in ("small", "small-scratch")}
    assert found["small-scratch"] == []
    text = table(TASKS["follows"], {"small": found["small"]}, {"chance": {"accuracy": 0.25}})
    line = next(line for line in text.splitlines() if "fine-tuned" in line)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["62.50% (50.00%–75.00%)", "1,234", "2", "800", "1.5"]
    assert "| chance | 25.00% |" in text
