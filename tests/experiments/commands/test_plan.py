"""Plans: the step that is planned is the step that trains, its figures hold together, and bad input is one sentence."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.text.source import Text
from experiments.assembly.assemble import assemble
from experiments.experiment import load
from experiments.plan import largest_that_fits, plan, plan_on, unscanned_flops
from models.bert import BertConfig
from tests.experiments.small import small
from training.parallel import Parallel
from training.planning.memory import Memory
from training.planning.topologies import parse_topology

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu (the tpu extra)")


@pytest.fixture(scope="module")
def with_data(tmp_path_factory):
    """`small`, on a few texts."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("texts")
    for name, text in sorted(topics.items())[:10]:
        (folder / f"{name}.txt").write_text(text)
    cache = str(tmp_path_factory.mktemp("cache"))
    return dataclasses.replace(small(), data=Text(source=str(folder), held_out=0.1, cache=cache), folder=cache)


def test_the_outline_promises_what_the_data_gives(with_data):
    """Names, shapes and types of examples, at both lengths: a step is planned for the batches that come."""
    real, outline = assemble(with_data), assemble(with_data, data=with_data.data.outline(512))
    for phase in range(len(with_data.phases)):
        one, other = (a.data.training(a.form(phase), 0)[0] for a in (real, outline))
        described = [
            {name: (np.shape(x), np.asarray(x).dtype) for name, x in example.items()} for example in (one, other)
        ]
        assert described[0] == described[1]
    kept = {"size", "pad", "unk", "cls", "sep", "mask", "bos", "eos", "sentinels", "special_ids", "framing"}
    for field in dataclasses.fields(real.data.vocabulary):
        one, other = (getattr(a.data.vocabulary, field.name) for a in (real, outline))
        assert type(one) is type(other) and (one == other if field.name in kept else len(one) == len(other))


@pytest.mark.parametrize("parallel", [Parallel(), Parallel("jit", fsdp=2, micro_batches=2)])
def test_the_planned_step_is_the_one_that_trains(with_data, parallel):
    """Lowered from shapes alone it is, letter for letter, what arrays and batches of the run lower to."""
    experiment = dataclasses.replace(with_data, parallel=parallel)
    real = assemble(experiment)
    state, batch = real.initial_state(), real.spread.put_batch(next(real.batches(0, 0)))
    trained = real.compile_train_step().lower(state, batch).as_text()
    planned = assemble(experiment, data=experiment.data.outline(512)).lower_train_step(0).as_text()
    assert planned == trained


@pytest.mark.parametrize(
    "parallel", [Parallel(), Parallel("jit"), Parallel("jit", fsdp=4), Parallel("jit", fsdp=2, micro_batches=2)]
)
def test_figures_of_a_compiled_step(parallel):
    """On CPU devices: everything that a plan for a TPU does but its compiler."""
    experiment = dataclasses.replace(small(), batch_size=32, parallel=parallel)
    found = plan_on(experiment, parse_topology("v5e:2x2"), 0, jax.devices()[:4])
    assert found.rows == 8 // parallel.micro_batches and found.steps == 15
    assert found.memory.fits and found.memory.total > found.memory.parameters + found.memory.optimizer
    assert found.memory.optimizer == pytest.approx(2 * found.memory.parameters, rel=0.01)
    assert found.program.computations
    kinds = {collective.kind for collective in found.collectives}
    assert found.moved >= found.bound
    if parallel.kind == "pmap":
        assert kinds == {"all-reduce"} and found.moved <= 1.05 * found.bound
    elif parallel.fsdp == 1:  # the partitioner reduces the two gradients of the tied embeddings before it adds them
        embeddings = 4 * experiment.model.vocab_size * experiment.model.hidden_size
        assert kinds == {"all-reduce"} and found.moved <= 1.05 * found.bound + 2 * embeddings
    else:
        assert {"all-gather", "all-reduce"} <= kinds
    assert 0 < found.mfu < 1 and found.hours == found.steps * found.step_seconds / 3600


@pytest.mark.parametrize(("variant", "length"), [("base", 128), ("large", 512)])
def test_our_flops_are_xlas_within_three_percent(variant, length):
    """The published recipes, 32 sequences a chip: nothing is compiled, XLA counts the program as lowered."""
    experiment = load(f"experiments/bert/pretrain.py:{variant}")
    phase = [phase.form.length for phase in experiment.phases].index(length)
    one = dataclasses.replace(experiment, batch_size=32, parallel=Parallel("jit", devices=1))
    counted = unscanned_flops(one, phase, "none")
    formula = assemble(one, data=one.data.outline(one.model.vocab_size)).work(phase)[1]
    assert 0.97 < formula / counted < 1.0


def test_recomputation_is_counted():
    """`full` computes the layers' forward pass again, a third of their work; `dots` the attention alone."""
    one = dataclasses.replace(
        load("experiments/bert/pretrain.py:base"), batch_size=32, parallel=Parallel("jit", devices=1)
    )
    counted, dots, full = (unscanned_flops(one, 0, remat) for remat in ("none", "dots", "full"))
    assert 1.28 < full / counted < 1.34
    assert 1.0 < dots / counted < 1.05


def test_gpu_servers_are_reckoned():
    experiment = dataclasses.replace(load("experiments/bert/pretrain.py:large"), batch_size=1024)
    one, two = (plan(experiment, parse_topology(name), 0) for name in ("gpu:h100:8", "gpu:h100:2x8"))
    assert one.collectives is None and one.compile_seconds is None and one.rows == 128 and two.rows == 64
    assert one.moved == one.bound == pytest.approx(2 * 7 / 8 * one.memory.parameters)
    assert one.executed_flops == pytest.approx(2 * two.executed_flops, rel=1e-3)
    assert two.network_seconds > one.network_seconds
    parameters = 336_226_108  # BertForPreTraining of BERT-large, decoder tied
    assert one.memory.parameters == 4 * parameters


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 30), st.integers(1, 60), st.integers(1, 9))
def test_search_finds_the_largest_that_fits(fixed, slope, bend, first, quantum):
    """Whatever bend the line has, the answer fits and the next does not; and the tries are few."""
    tries = []

    def memory(rows: int) -> Memory:
        assert rows % quantum == 0 and rows > 0
        tries.append(rows)
        return Memory(fixed, 0, 0, 0, total=fixed + slope * rows + bend * (rows // 7), limit=1000)

    rows = largest_that_fits(memory, first * quantum, quantum)
    made = len(tries)
    assert rows == 0 or memory(rows).fits
    assert not memory(rows + quantum).fits
    assert made <= 16 and len(set(tries[:made])) == made


def test_the_compile_is_refused_before_it_begins():
    experiment = dataclasses.replace(small(), model=BertConfig.tiny(vocab_size=512, max_position_embeddings=32))
    with pytest.raises(ValueError, match=r"batch_size=8 does not divide .* 16 device.*multiple of 16"):
        plan(experiment, parse_topology("gpu:h100:2x8"), 0)


def lacuna(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, "-m", "experiments.cli", "plan", *arguments]
    environment = {**kept, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)


SMALL = str(Path(__file__).parents[1] / "small.py")
BAD = {
    "an unknown topology": (["--topology", "v5e:3x3"], "unknown topology 'v5e:3x3': known are v4: 2x2x1"),
    "a batch that does not divide": (["--topology", "gpu:a100:2x8"], "make it a multiple of 16"),
    "a phase that is not there": (["--topology", "gpu:a100:8", "--phase", "3"], "small has 2 phase(s)"),
    "a field that is not there": (["--topology", "gpu:a100:8", "--bach-size", "8"], "batch-size"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    arguments, sentence = BAD[case]
    found = lacuna(SMALL, *arguments)
    assert found.returncode == 2 and sentence in found.stdout + found.stderr, found.stderr
    assert "Traceback" not in found.stdout + found.stderr


def test_the_command_prints_plan_and_search():
    found = lacuna(SMALL, "--topology", "gpu:h100:8", "--phase", "1", "--search", COLUMNS="160")
    assert found.returncode == 0, found.stderr
    for words in ("fits,", "activations kept", "executed, recomputation", "at least", "chip-hours", "An estimate"):
        assert words in found.stdout, words
    assert "the cheapest that fits is remat none" in found.stdout and "989 TFLOP/s" in found.stdout


@needs_libtpu
def test_the_tpu_compiler_takes_the_step_for_slices_that_are_not_there():
    """pmap and jit; the gradient all-reduce sends what it must and no more; random bits never exist whole."""
    for name, parallel in (("v5e:16x16", Parallel()), ("v4:2x2x1", Parallel("jit", fsdp=2))):
        topology = parse_topology(name)
        experiment = dataclasses.replace(small(), batch_size=2 * topology.chips, parallel=parallel)
        found = plan(experiment, topology, 0)
        assert found.memory.fits and found.compile_seconds > 0
        if parallel.kind == "pmap":
            assert found.bound <= found.moved <= 1.05 * found.bound
        words = found.program.largest("u32")
        whole = experiment.batch_size * 16 * experiment.model.hidden_size
        assert np.prod(words.shape) * topology.chips <= 4 * whole
