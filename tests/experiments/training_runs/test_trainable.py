"""A run in two phases: the head first, then all of the model; it goes on from any checkpoint to the same bits."""

import dataclasses

import jax
import numpy as np
import pytest

from data.text.source import Text
from experiments.assembly.assemble import assemble
from experiments.campaigns.equality import differences, final_state
from experiments.commands import evaluate
from experiments.commands import train as training
from experiments.commands.train import train
from experiments.experiment import Experiment
from tests.experiments.small import small
from tests.experiments.training_runs.test_going_on import back_at
from training.parallel import TrainingError

pytestmark = pytest.mark.slow

HEAD = "^(transform|seq_relationship)"
"""Of `BertForPreTraining`: what stands between the last hidden states and both losses."""


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def run(texts, tmp_path_factory, patch) -> Experiment:
    """Four steps of the head, four of everything, a checkpoint at each; its end is not written."""
    patch.setenv("LACUNA_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(training, "finish", lambda *_, **__: {})
    patch.setattr(training, "print_result", lambda *_: None)
    experiment = small()
    phase = experiment.phases[0]
    phases = (
        dataclasses.replace(phase, share=0.5, trainable=HEAD),
        dataclasses.replace(phase, share=0.5),
    )
    experiment = dataclasses.replace(
        experiment,
        data=Text(source=str(texts), held_out=0.1),
        phases=phases,
        steps=8,
        checkpoint_every=1,
        keep_checkpoints=8,
        folder=str(tmp_path_factory.mktemp("run")),
    )
    train(experiment, "")
    return experiment


def arrays(tree) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def of_head(path: str) -> bool:
    return path.startswith(("['transform", "['seq_relationship"))


def test_checkpoints_hold_what_is_trained_and_the_rest_keeps_its_bits(run):
    assembly = assemble(run)
    states = {step: evaluate.restored(assembly, str(step))[0] for step in (1, 4, 5, 8)}
    params = {step: arrays(assembly.spread.gather(state.params)) for step, state in states.items()}
    for path, value in params[4].items():
        assert (value.tobytes() == params[1][path].tobytes()) != of_head(path)
    assert sum((value != params[8][path]).any() for path, value in params[4].items()) > 20
    for step, state in states.items():
        moments = {path.split("mu", 1)[1] for path in arrays(state.opt_state) if ".mu" in path}
        assert moments == {path for path in params[4] if step > 4 or of_head(path)}


@pytest.mark.parametrize("step", [2, 4, 5])
def test_it_goes_on_to_the_same_bits(run, step, tmp_path):
    """From within the first phase, from its end, whose state the next one makes its own, and from within the next."""
    again = back_at(run, step, tmp_path / "run")
    train(again, "")
    states = [final_state(experiment.run_folder) for experiment in (run, again)]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])
    assert differences(run.run_folder, again.run_folder) == []


def test_a_pattern_of_no_parameter_is_refused_before_anything_is_compiled(run, tmp_path):
    phases = (run.phases[0], dataclasses.replace(run.phases[1], trainable="clasifier"))
    with pytest.raises(
        TrainingError, match=r"trainable='clasifier': the path of no parameter has this in it, such as bert/"
    ):
        assemble(dataclasses.replace(run, phases=phases, folder=str(tmp_path)))
