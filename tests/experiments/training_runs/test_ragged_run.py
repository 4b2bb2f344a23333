"""A run on ragged data: at most as many programs as buckets, and the same bits when it goes on from a step."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from data.forms import TextForm
from data.mixture import Mixture
from data.text.labelled import LabelledText
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.experiment import Experiment, Phase, load
from models.bert import BertConfig
from tests.data.text.test_labelled import WORDS
from training.parallel import Parallel

pytestmark = pytest.mark.slow

SHAPE = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=200)
STEPS = 14


def experiment(tmp_path: Path, **settings) -> Experiment:
    random = np.random.default_rng(0)
    for number in range(90):
        path = tmp_path / "texts" / ("even", "odd")[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(random.choice(WORDS, int(np.exp(random.normal(2.5, 0.5))) + 1)))
    base = dataclasses.replace(
        load("experiments/bert/classify.py"),
        model=BertConfig(**SHAPE),
        data=LabelledText(source=str(tmp_path / "texts"), cache=str(tmp_path / "cache")),
        phases=(Phase(1.0, TextForm(48, buckets=4)),),
        batch_size=8,
        steps=STEPS,
        parallel=Parallel("jit"),
        folder=str(tmp_path / "run"),
    )
    return dataclasses.replace(base, **settings)


def trained(assembly: Assembly, state, first_step: int, last_step: int):
    """The state behind some steps, and the lengths of their batches."""
    step, lengths = assembly.compile_train_step(), []
    for _, batch in zip(range(first_step, last_step), assembly.batches(0, first_step), strict=False):
        lengths.append(batch["input_ids"].shape[-1])
        state, _ = step(state, assembly.spread.put_batch(batch))
    return state, lengths, step


def test_few_programs_and_the_same_bits_after_a_restart(tmp_path: Path) -> None:
    assembly = assemble(experiment(tmp_path))
    state, lengths, step = trained(assembly, assembly.initial_state(), 0, STEPS)
    assert step._cache_size() == len(set(lengths)) and 2 < len(set(lengths)) <= 4
    half = jax.device_get(trained(assembly, assembly.initial_state(), 0, 5)[0])
    again = assemble(experiment(tmp_path))
    rest, lengths_of_rest, _ = trained(again, again.spread.put(half), 5, STEPS)
    assert lengths_of_rest == lengths[5:]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(rest))


def test_speed_counts_the_places_of_batches(tmp_path: Path) -> None:
    """In the mean, and not those of the longest."""
    ragged, whole = (
        assemble(experiment(tmp_path, phases=(Phase(1.0, TextForm(48, buckets=buckets)),))) for buckets in (4, 1)
    )
    examples = ragged.data.training(ragged.form(0), 0)
    lengths = examples.buckets.lengths[examples.buckets.members][:, 0]
    (places, flops), (most, most_flops) = ragged.work(0), whole.work(0)
    assert most == 8 * 48 and places == round(8 * lengths.mean()) and flops < most_flops * places / most * 1.1


def test_a_mixture_is_trained_on(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    mixture = Mixture(sources=(one.data, one.data), weights=(3, 1), cache=one.data.cache)
    run = dataclasses.replace(one, data=mixture, phases=(Phase(1.0, TextForm(48)),))
    assembly = assemble(run)
    assert assembly.experiment.model.labels == ("even", "odd")
    moved = dataclasses.replace(
        mixture, sources=tuple(dataclasses.replace(x, cache="elsewhere") for x in mixture.sources)
    )
    assert dataclasses.replace(run, data=moved).description() == run.description()
    state, *_ = trained(assembly, assembly.initial_state(), 0, 2)
    assert int(assembly.spread.host(state.step)) == 2
