"""The end of a run: model, report and result, in that order, each whole; computed where the parameters lie."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import finish as ending
from experiments import run_folder
from experiments.assembly.assemble import assemble
from tests.experiments.small import small
from training.metrics import MetricsLog
from training.parallel import Parallel

pytestmark = pytest.mark.slow

PARALLELS = {"pmap": Parallel(), "sharded": Parallel("jit", fsdp=2, tensor=2)}


@pytest.fixture(scope="module", params=PARALLELS)
def ended(request, texts, tmp_path_factory, monkeypatch_module):
    """An assembled run whose steps are done (none was asked for), and its state."""
    folder = tmp_path_factory.mktemp(request.param)
    monkeypatch_module.setenv("LACUNA_CACHE", str(tmp_path_factory.getbasetemp() / "finish-cache"))
    experiment = dataclasses.replace(small(), folder=str(folder), parallel=PARALLELS[request.param])
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, source=str(texts)))
    assembly = assemble(experiment)
    assembly.data.save(folder, 32)
    MetricsLog(folder).close()
    return assembly, assembly.initial_state()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


FIGURES = dict(model_step=20, seconds=1.0, best_step=20, peak_flops=0.0, peak_source="none")
MEASURES = {"held_out": {"loss": 7.0, "masked_lm_loss": 6.0, "next_sentence_loss": 1.0, "masked_accuracy": 0.1}}


def finish(ended) -> Path:
    assembly, state = ended
    ending.finish(assembly, state, MEASURES, **FIGURES)
    return assembly.experiment.run_folder


def test_the_end_is_the_same_however_the_parameters_lie(ended, tmp_path_factory):
    """Baselines, guesses and the model; the one-device figures are the slow, obvious way."""
    assembly, _ = ended
    folder = finish(ended)
    result = json.loads((folder / "result.json").read_text())
    right: dict[str, list] = {}
    for batch in assembly.evaluation_batches(share=(0, 1)):
        seen = assembly.seen({name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}, 0xE7A1)
        right.setdefault("masked_lm_loss", []).append(seen["labels"].reshape(-1))
        right.setdefault("next_sentence_loss", []).append(seen["next_sentence_label"].reshape(-1))
    assert result["baselines"].keys() == right.keys()
    for name, labels in right.items():
        labels = np.concatenate(labels)
        shares = np.unique(labels[labels != -100], return_counts=True)[1] / (labels != -100).sum()
        assert result["baselines"][name]["count"] == (labels != -100).sum()
        assert result["baselines"][name]["loss"] == pytest.approx(-(shares * np.log(shares)).sum())
    page = (folder / "report.html").read_text()
    assert len(re.findall("<span class='gap", page)) >= 6 and "Left out" not in page
    exported = (folder / "model/model.safetensors").read_bytes()
    first = tmp_path_factory.getbasetemp() / "first"
    guesses = page[page.index("What it guesses") : page.index("<h2>The run")]
    if first.exists():
        assert first.read_bytes() == exported and first.with_suffix(".html").read_text() == guesses
    first.write_bytes(exported), first.with_suffix(".html").write_text(guesses)


def test_a_checkpoint_is_restored_by_shapes_that_are_those_of_the_state(ended):
    assembly, state = ended
    whole, shapes = assembly.spread.whole(state), assembly.state_shapes()
    assert jax.tree.structure(whole) == jax.tree.structure(shapes)
    for array, shape in zip(jax.tree.leaves(whole), jax.tree.leaves(shapes), strict=True):
        assert (array.shape, array.dtype, array.sharding) == (shape.shape, shape.dtype, shape.sharding)


def test_putting_a_restored_state_on_the_devices_gives_its_memory_away(ended, monkeypatch):
    assembly, state = ended
    whole = assembly.spread.whole(jax.tree.map(lambda x: x + 0, state))
    if assembly.spread.parts(whole) is whole:  # as it is restored, so it lies
        return
    whole, left = assembly.spread.whole(state), []
    leaves, make = jax.tree.leaves(whole), jax.make_array_from_single_device_arrays

    def watched(*arguments):
        left.append(sum(not x.is_deleted() for x in leaves))
        return make(*arguments)

    monkeypatch.setattr(jax, "make_array_from_single_device_arrays", watched)
    again = assembly.spread.parts(whole)
    assert left == list(range(len(leaves), 0, -1))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True))


def test_no_device_holds_the_whole_model_where_it_is_sharded(ended, monkeypatch):
    """What the end computes has the state's own arrays as its input: none is gathered first, but for the file."""
    assembly, state = ended
    given = []
    compile_ = type(assembly.spread).compile

    def watched(spread, step, donate):
        compiled = compile_(spread, step, donate)
        return lambda variables, batch: (given.append(variables), compiled(variables, batch))[1]

    monkeypatch.setattr(type(assembly.spread), "compile", watched)
    finish(ended)
    assert len(given) >= 2
    for variables in given:
        assert [*map(id, jax.tree.leaves(variables))] == [*map(id, jax.tree.leaves(state.variables))]


def test_it_is_done_when_all_three_are_there_and_in_that_order(ended, monkeypatch):
    assembly, _ = ended
    folder = assembly.experiment.run_folder
    for name in ("model", "report.html", "result.json"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    class Killed(BaseException):
        pass

    def dies(*_, **__):
        raise Killed

    for place, there in (
        ("experiments.finish.export", []),
        ("experiments.finish.baselines", ["model"]),
        ("experiments.show.report.write_report", ["model"]),
        ("experiments.finish.write_json", ["model", "report.html"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, dies)
            with pytest.raises(Killed):
                finish(ended)
        assert [name for name in ("model", "report.html", "result.json") if (folder / name).exists()] == there
        assert run_folder.finished(folder) is None
    finish(ended)
    assert run_folder.finished(folder)["held_out"] == MEASURES["held_out"]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    (folder / "model/notes.md").write_text("mine")
    (folder / "result.json").write_text("{")
    assert run_folder.finished(folder) is None
    finish(ended)
    assert run_folder.finished(folder) and (folder / "model/notes.md").read_text() == "mine"


def test_what_a_kill_left_half_written_is_swept_and_nothing_else(tmp_path):
    whole_file_temporary = f".generation_config.{'0a' * 16}.json"
    for name in (
        whole_file_temporary,
        ".result.json.17",
        ".metrics.jsonl.4",
        ".notes.7",
        ".model.old",
        "result.json",
        ".report.html.3.bak",
    ):
        (tmp_path / name).write_text("")
    for name in (".inputs.8", "model.9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    run_folder.sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".notes.7", ".model.old", "result.json", ".report.html.3.bak", "model.9"}


def test_outputs_that_find_no_room_are_left_out_by_name(ended, monkeypatch):
    from experiments.show.report import guesses

    assembly, state = ended

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(type(assembly), "asked", full)
    assert "Left out" in guesses(assembly, state.variables)[0]
