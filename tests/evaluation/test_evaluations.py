"""Evaluations of a run: exact for every split, refused where they do not fit."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.evaluation import Best, Evaluation
from evaluation.metric import MetricError
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import check_evaluations
from tests.evaluation import layouts
from tests.marks import first_fast
from tests.training.test_supervisor import free_port
from training.parallel import Parallel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone():
    return layouts.run("alone")


def same(found, alone):
    """States are the same examples in the same order; figures equal up to the rounding of sums."""
    assert found.keys() == alone.keys()
    for name in ("index", "labels", "counts"):
        np.testing.assert_array_equal(found[name], alone[name])
    np.testing.assert_allclose(found["logits"], alone["logits"], atol=1e-5)
    for name in alone.keys() - {"index", "labels", "counts", "logits"}:
        assert found[name] == pytest.approx(alone[name], rel=1e-6), name


def test_each_example_counts_once(alone):
    assert len(alone["index"]) == alone["count"] == alone["seen"] == layouts.EXAMPLES
    assert len(set(alone["index"].tolist())) == layouts.EXAMPLES
    right = alone["logits"].argmax(axis=1) == alone["labels"]
    assert alone["accuracy"] == pytest.approx(right.mean()) == alone["top_1_accuracy"]
    np.testing.assert_array_equal(alone["counts"], np.bincount(alone["labels"], minlength=10))


@pytest.mark.parametrize("layout", first_fast(["pmap", "jit", "rows alone"]))
def test_any_layout_gives_the_same(alone, layout):
    same(layouts.run(layout), alone)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pmap", "jit"])
def test_two_processes_give_the_same(alone, layout, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    program = [sys.executable, "-m", "tests.evaluation.layouts", str(tmp_path / "found.npz"), layout]
    place = [f"127.0.0.1:{free_port()}", "2"]
    started = [subprocess.Popen([*program, *place, str(n)], env=environment, stderr=subprocess.PIPE) for n in (0, 1)]
    said = [process.communicate(timeout=400)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    same(dict(np.load(tmp_path / "found.npz")), alone)


@dataclasses.dataclass(frozen=True)
class Named(Accuracy):
    """A metric whose names may be set."""

    figures = ("top_1_accuracy",)


@dataclasses.dataclass(frozen=True)
class Boxes(Accuracy):
    asks = ("pred_boxes",)


@dataclasses.dataclass(frozen=True)
class Captions(Accuracy):
    reads = ("captions",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(evaluations=(Evaluation(metrics=(Boxes(),)),)), "wants pred_boxes; the model gives .*logits"),
        (dict(evaluations=(Evaluation(metrics=(Captions(),)),)), "wants captions; the batch holds .*labels"),
        (dict(evaluations=(Evaluation(metrics=(Named(),)),)), "the objective both give 'top_1_accuracy'"),
        (dict(best=Best("f1", True)), "best.figure='f1': expected one of .*held_out/loss"),
        (dict(best=Best("test/loss")), "best.figure='test/loss'"),
        (dict(evaluations=(Evaluation(), Evaluation())), "two evaluations are called 'held_out'"),
    ],
)
def test_what_does_not_fit_is_a_sentence_before_anything_is_compiled(changes, said):
    experiment = dataclasses.replace(layouts.experiment(Parallel(devices=1)), **{"evaluations": ()} | changes)
    with pytest.raises(MetricError, match=said):
        check_evaluations(assemble(experiment))


def test_evaluations_are_named_once_and_well():
    for arguments, said in (
        (dict(name="train"), "cannot be called 'train'"),
        (dict(data=layouts.experiment(Parallel()).data), "give one of other data another name"),
        (dict(metrics=(F1(), F1(positive=0))), "two metrics give 'f1'"),
        (dict(every=0), "0 is no number"),
    ):
        with pytest.raises(MetricError, match=said):
            Evaluation(**arguments)


def test_best_reads_its_figure():
    values = {"held_out": {"loss": 2.0, "f1": 0.5}, "test": {"f1": 0.7}}
    assert (Best().of(values), Best("f1").of(values), Best("test/f1").of(values)) == (2.0, 0.5, 0.7)
    assert Best("test/f1").of({"held_out": {}}) is None
    assert Best().better(1.0, 2.0) and Best("f1", True).better(2.0, 1.0) and not Best("f1", True).better(1.0, 1.0)
