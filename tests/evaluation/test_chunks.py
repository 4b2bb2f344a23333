"""Evaluations of a vocabulary never hold tokens × vocabulary where that is large, and give the figures of whole scores."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evaluation.metric import Metric
from evaluation.metrics.objective import OfObjective
from evaluation.step import evaluation_step
from models.gpt2 import GPT2Config, GPT2LMHeadModel
from models.kernels import vocabulary
from objectives import CausalLM

BATCH, LENGTH, VOCAB = 3, 8, 60
MODEL = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=16, n_embd=16, n_layer=1, n_head=2))


@dataclasses.dataclass(frozen=True)
class Highest(Metric):
    """A metric that looks at the scores."""

    summed: ClassVar[bool] = True
    asks: ClassVar[tuple[str, ...]] = ("logits",)

    def update(self, outputs, batch):
        return {"highest": outputs["logits"].max(axis=-1).sum()}


def program(*metrics: Metric):
    """The step with these metrics, and its text before XLA has seen it."""
    ids = np.random.default_rng(0).integers(0, VOCAB, (1, BATCH, LENGTH))
    batch = {"input_ids": jnp.asarray(ids), "labels": jnp.asarray(np.roll(ids, -1, axis=-1))}
    variables = nn.unbox(MODEL.init(jax.random.key(0), **MODEL.blank()))
    step = jax.jit(lambda variables, batch: evaluation_step(variables, batch, model=MODEL, see=dict, metrics=metrics))
    sums = step(variables, batch)["sums"]
    return sums, step.lower(variables, batch).as_text()


@pytest.mark.parametrize("most", [VOCAB, 2 * BATCH * VOCAB])
def test_losses_by_chunks_are_those_of_whole_scores(monkeypatch, most):
    metric = OfObjective(CausalLM())
    whole, text = program(metric)
    assert f"tensor<{BATCH}x{LENGTH}x{VOCAB}xf32>" in text
    monkeypatch.setattr(vocabulary, "MOST_SCORES", most)
    chunks, text = program(metric)
    assert f"x{LENGTH}x{VOCAB}xf32>" not in text and f"x{most // (BATCH * VOCAB) or 1}x{VOCAB}xf32>" in text
    expected, found = metric.compute(whole[0]), metric.compute(chunks[0])
    assert found == pytest.approx(expected, rel=1e-6) and {"loss", "accuracy"} <= {
        name.split("_")[-1] for name in found
    }


def test_a_metric_that_looks_at_scores_gets_whole_ones(monkeypatch):
    expected, _ = program(OfObjective(CausalLM()), Highest())
    monkeypatch.setattr(vocabulary, "MOST_SCORES", VOCAB)
    found, _ = program(OfObjective(CausalLM()), Highest())
    jax.tree.map(np.testing.assert_array_equal, found, expected)
