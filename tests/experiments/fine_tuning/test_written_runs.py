"""A run that translates: what it writes is scored, decides which checkpoint is best, and is what a pipeline gives."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from huggingface_hub import ModelCard

from data.errors import DataError
from evaluation.evaluation import Evaluation
from evaluation.metrics.translation import Bleu
from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import check_evaluations
from experiments.commands.train import train
from experiments.experiment import load
from inference.pipeline import pipeline
from inference.tasks.summarization import Summarization
from inference.tasks.translation import Translation
from models.config import ModelError
from tests.experiments.fine_tuning.numbers import HELD_OUT, LAYOUTS, experiment, scored
from tests.training.test_supervisor import free_port
from training.metrics import read_metrics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    train(experiment(folder), "a test")
    return folder


def test_what_is_scored_is_what_a_pipeline_writes(run: Path):
    result = json.loads((run / "run/result.json").read_text())
    written = result["evaluations"]["written"]
    prepared = assemble(experiment(run)).data
    items = prepared.held_out_items
    sources, right = prepared.texts(items[np.arange(HELD_OUT) * len(items) // HELD_OUT])
    answers = pipeline("translation", run / "run/model")(sources)
    texts = [best["translation_text"] for best, *_ in answers]
    assert written["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [right]).score)
    assert written["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [right]).score)
    assert written["bleu"] > 60 and "loss" not in written
    low, high = written["intervals"]["bleu"]
    assert low <= written["bleu"] <= high
    generation = json.loads((run / "run/model/generation_config.json").read_text())
    assert generation["num_beams"] == 2 and generation["max_length"] == 24


def test_the_best_checkpoint_is_that_of_the_best_score(run: Path):
    lines = read_metrics(run / "run/metrics.jsonl")
    scores = {line["step"]: line["bleu"] for line in lines if line["split"] == "written"}
    assert len(scores) == 3 and len(set(scores.values())) > 1
    assert scores[json.loads((run / "run/result.json").read_text())["best_step"]] == max(scores.values())


def test_the_exported_folder_has_a_model_card_that_the_hub_reads(run: Path):
    result = json.loads((run / "run/result.json").read_text())
    card = ModelCard.load(run / "run/model/README.md")
    assert card.data.pipeline_tag == "translation" and card.data.library_name == "transformers"
    found = {one.metric_name: one.metric_value for one in card.data.eval_results}
    written = result["evaluations"]["written"]
    assert found["bleu (written)"] == pytest.approx(written["bleu"], abs=1e-6)
    assert found["loss (held_out)"] == pytest.approx(result["held_out"]["loss"], abs=1e-6)
    low, high = written["intervals"]["bleu"]
    assert f"| written | bleu | {written['bleu']:.4g} | {low:.4g} to {high:.4g} |" in card.text
    for said in (f"- steps: {result['model_step']}", "- command: lacuna train a test", f"bleu: `{Bleu().signature}`"):
        assert said in card.text, said
    assert f"- digest of the examples: {assemble(experiment(run)).data.fingerprint}" in card.text


@pytest.mark.parametrize("layout", ["pmap", "jit"])
def test_any_layout_and_two_processes_give_the_same(run: Path, layout: str, tmp_path: Path):
    alone = scored(run, "alone")
    assert scored(run, layout) == pytest.approx(alone) and alone["bleu"] > 60
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    program = [
        sys.executable,
        "-m",
        "tests.experiments.fine_tuning.numbers",
        str(run),
        str(tmp_path / "found.json"),
        layout,
    ]
    place = [f"127.0.0.1:{free_port()}", "2"]
    started = [subprocess.Popen([*program, *place, str(n)], env=environment, stderr=subprocess.PIPE) for n in (0, 1)]
    said = [process.communicate(timeout=400)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert json.loads((tmp_path / "found.json").read_text()) == pytest.approx(alone)


@pytest.mark.parametrize(
    ("task", "error", "said"),
    [
        (Translation(generation={"num_beams": 0}), ModelError, "num_beams=0"),
        (Translation(generation={"beams": 2}), ModelError, "beams"),
        (Translation(source_language="fr_XX"), ModelError, "fr_XX"),
    ],
)
def test_a_task_that_does_not_fit_is_a_sentence_before_training(task, error, said, tmp_path: Path):
    one = experiment(tmp_path, parallel=LAYOUTS["alone"])
    one = dataclasses.replace(one, evaluations=(Evaluation("written", (Bleu(),), task=task),))
    with pytest.raises(error, match=said):
        check_evaluations(assemble(one))


def test_texts_without_a_right_one_are_a_sentence(tmp_path: Path):
    one = load("experiments/bart/pretrain.py")
    one = dataclasses.replace(
        one,
        data=dataclasses.replace(one.data, cache=str(tmp_path)),
        evaluations=(Evaluation("written", (Bleu(),), task=Summarization()),),
    )
    with pytest.raises(DataError, match="holds no pairs of texts"):
        check_evaluations(assemble(one))
