"""Benchmarks, tried on tiny models: the step that they time is the one that trains, and their last line is JSON."""

import json
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.benchmarks import gpu_steps, image_pipeline, one_row, partial, steps, steps_worker, tuning
from experiments.benchmarks.works import WORK, TuningWork
from experiments.commands import bench
from objectives import Augmented
from tests.experiments import small

pytestmark = pytest.mark.slow


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def run(module, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark", *map(str, arguments)])
    module.main()


def test_steps(monkeypatch, capsys, tmp_path):
    asked = ("--models", "tiny-vit", "--rounds", 2, "--steps", 1, "--only", steps.CORRUPTION)
    run(steps, monkeypatch, *asked, "--json", tmp_path / "steps.json")
    found = last_line(capsys)["results"]["tiny-vit"]
    assert [(one["name"], one["keep"], len(one["times"])) for one in found] == [
        (steps.CORRUPTION, False, 2),
        (steps.CORRUPTION, True, 2),
    ]


def test_gpu_steps(monkeypatch, capsys, tmp_path):
    """Without a GPU: what was measured stands there already."""
    waited = [
        types.SimpleNamespace(name=name, seconds=s, times=[s], versions={}) for name, s in (("ours", 1), ("torch", 2))
    ]
    monkeypatch.setattr(gpu_steps, "measured", lambda models, _: [(model, "f32", waited) for model in models])
    monkeypatch.setattr("subprocess.check_output", lambda *_, **__: "some GPU, 1.0\n")
    run(gpu_steps, monkeypatch, "--models", "bert", "vit-small", "--json", tmp_path / "gpu.json")
    assert last_line(capsys)["results"]["vit-small, f32"] == {"ours": [1], "torch": [2]}


def test_image_pipeline(monkeypatch, capsys):
    monkeypatch.setattr(image_pipeline, "ROUNDS", 1)
    run(image_pipeline, monkeypatch, "--seconds", 0.01, "--width", 80, "--height", 60, "--workers", 0)
    assert last_line(capsys)["pictures_per_second"][image_pipeline.RANDOM_PART] > 0


def test_partial(monkeypatch, capsys):
    run(partial, monkeypatch, "--model", "tiny-bert", "--rounds", 1)
    found = last_line(capsys)
    assert found["ratio"] == found["part"] / found["all"] > 0


def test_one_row(monkeypatch, capsys):
    monkeypatch.setattr(one_row, "WIDTH", 16)
    monkeypatch.setattr(one_row, "INNER", 32)
    run(one_row, monkeypatch, "--layers", 1, "--rounds", 2)
    found = last_line(capsys)["results"]
    assert list(found) == list(one_row.FORMS) and all(min(figures.values()) > 0 for figures in found.values())


@pytest.mark.parametrize("name", one_row.FORMS)
def test_every_form_of_a_product_is_the_product(name):
    random = np.random.default_rng(0)
    row, kernel = (random.normal(size=shape).astype(np.float32) for shape in ((1, 32), (32, 16)))
    form, rounded = one_row.FORMS[name], 2.0**-8 if "bfloat16" in name else 2.0**-22
    found = jax.jit(form.product)(row, [jax.numpy.asarray(part) for part in form.parts(kernel)])
    np.testing.assert_array_less(np.abs(found - row @ kernel), 2 * rounded * (np.abs(row) @ np.abs(kernel)))


def test_lacuna_bench(capsys, texts, tmp_path):
    flags = ("--data.source", texts, "--folder", tmp_path / "run", "--warmup", 1, "--measure", 2)
    bench.main([str(Path(small.__file__)), *map(str, flags)])
    found = last_line(capsys)
    assert found["benchmark"] == "bench" and len(found["seconds"]) == 2 and found["items_per_step"] == 8 * 16


def test_fine_tuning_pads_little_and_steps_over_the_batches_of_its_recipe(tmp_path):
    """On Python's documentation: the batches that are written are those of a run, with the same texts for both sides."""
    tuning.documentation(tmp_path)
    work, assembly = tuning.prepared("tags", tmp_path, tmp_path / "place", 3)
    sides = [types.SimpleNamespace(name=name, seconds=s, times=[s]) for name, s in (("ours", 1.0), ("torch", 2.0))]
    found = tuning.figures(work, assembly, sides)
    assert found["padding_to_the_longest"] < found["padding"] < 0.15 and len(found["lengths"]) == 8
    assert found["ratio"] == 2 and found["ours"] == found["tokens"] == 2 * found["torch"]
    work = TuningWork.open(str(tmp_path / "place"))
    theirs = work.batches_of_theirs(np)
    run = [next(batches) for batches in [assembly.batches(0, 0)] for _ in theirs]
    for batch, other in zip(run, theirs, strict=True):
        shown = batch["attention_mask"][0].astype(bool)
        assert shown.sum() == other["attention_mask"].sum() and shown.sum(axis=1).max() == other["input_ids"].shape[1]
        for name in ("input_ids", "labels"):
            np.testing.assert_array_equal(batch[name][0][shown], other[name][other["attention_mask"] > 0])
    step, wait = steps_worker.ours(work, "pmap", "float32")
    step()
    assert (np.asarray(wait().step) == 3).all()


@pytest.mark.parametrize("model", ["tiny-bert", "tiny-vit"])
def test_ours_is_the_step_of_a_run(model):
    """The state moves as `Assembly.compile_train_step` moves it, on examples that the objective corrupts or augments."""
    step, wait = steps_worker.ours(WORK[model], "pmap", "float32")
    step()
    assembly, (batch,) = steps_worker.assembled(WORK[model])
    assert isinstance(assembly.training_objective, Augmented) == (model == "tiny-vit")
    rows = {name: x[None] for name, x in steps_worker.numbered(WORK[model], batch, 0).items()}
    state, _ = assembly.compile_train_step()(assembly.initial_state(), assembly.spread.put_batch(rows))
    wait()
    jax.tree.map(np.testing.assert_array_equal, wait().params, state.params)
