"""What kernels do in a step, against their formula written out."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.plan import plan_on
from models.bert import BertConfig, BertForPreTraining
from objectives import MaskedLM, NextSentence, Sum
from tests.examples import batch
from tests.experiments.small import small
from training.parallel import Parallel
from training.planning.kernels import attention_work
from training.planning.topologies import parse_topology
from training.state import Update

ROWS, LENGTH = 4, 32


def work(vocabulary, **execution):
    config = BertConfig.tiny(vocab_size=vocabulary.size, max_position_embeddings=64, **execution)
    model, objective = BertForPreTraining(config), Sum(MaskedLM(), NextSentence()).bind(vocabulary)
    params = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]))
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch(range(ROWS), LENGTH).items()}
    return config, attention_work(model, objective, Update(optax.identity()), {"params": params}, shapes)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize(("remat", "products"), [("none", 7), ("dots", 9), ("full", 9)])
def test_the_kernels_of_a_step_are_counted_as_often_as_they_run(vocabulary, scan_layers, remat, products):
    """Two products forward and five backward; `dots` and `full` run the former twice."""
    config, (step, product) = work(vocabulary, attention="kernel", scan_layers=scan_layers, remat=remat)
    assert product == 2 * config.num_hidden_layers * ROWS * LENGTH**2 * config.hidden_size
    assert step.flops == products * product
    assert step.calls == config.num_hidden_layers * (2 if remat == "none" else 3)
    arrays = {"none": 4 + 7, "dots": 4 + 4 + 7, "full": 4 + 4 + 7}[remat]  # of activations, each read or written once
    assert step.bytes == config.num_hidden_layers * arrays * ROWS * LENGTH * config.hidden_size * 4


def test_without_kernels_there_is_no_work(vocabulary):
    assert work(vocabulary, attention="reference")[1][0].calls == 0


def test_a_plan_takes_the_kernels_operations_in_the_place_of_the_references():
    experiment = dataclasses.replace(small(), batch_size=32, parallel=Parallel("jit"))

    def planned(attention):
        model = dataclasses.replace(experiment.model, attention=attention, hidden_size=64)
        on = dataclasses.replace(experiment, model=model)
        return plan_on(on, parse_topology("v5e:2x2"), 0, jax.devices()[:4], compiled=False)

    kernel, reference = planned("kernel"), planned("reference")
    assert (kernel.attention, reference.attention, reference.kernels.calls) == ("kernel", "reference", 0)
    assert kernel.counted_flops == reference.counted_flops
    assert kernel.executed_flops - reference.executed_flops == pytest.approx(kernel.kernels.flops / 7)
    assert kernel.memory.activations < reference.memory.activations
