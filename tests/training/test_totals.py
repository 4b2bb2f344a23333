"""Losses as functions of totals: what the step computes for them, and what it does not."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from evaluation.metric import Collected
from evaluation.metrics.objective import OfObjective
from evaluation.step import evaluation_step
from experiments.assembly.checks import check_parts
from models.outputs import ModelOutput
from objectives import Objective, ObjectiveError, Sum
from objectives.checks import loss_weights
from tests.training import totals
from training.parallel import Parallel
from training.state import Update
from training.step import corrupted, train_step


def test_held_out_losses_are_those_of_all_batches_together():
    """Batches of unequal size, summed on the host before the losses are taken."""
    batch = {name: jnp.asarray(x) for name, x in totals.examples().items()}
    _, expected = totals.whole_batch()
    variables = nn.unbox(totals.Scores().init(jax.random.key(0), batch["features"][:1]))
    parts = [{name: x[None, rows] for name, x in batch.items()} for rows in (slice(0, 20), slice(20, 32))]
    metrics = (OfObjective(totals.OBJECTIVE),)
    step = functools.partial(
        evaluation_step,
        model=totals.Scores(),
        see=lambda batch: corrupted(totals.OBJECTIVE, 0, batch)[0],
        metrics=metrics,
    )
    collected = Collected(metrics)
    for part in parts:
        collected.add(**step(variables, part))
    figures = metrics[0].compute(collected.states()[0])
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def products(micro_batches: int, objective: Objective) -> int:
    """Matrix products in the compiled step."""
    batch = {name: x.reshape(micro_batches, -1, *x.shape[1:]) for name, x in totals.examples().items()}
    state = Update(optax.sgd(1.0)).first(nn.unbox(totals.Scores().init(jax.random.key(0), batch["features"][0, :1])))
    step = functools.partial(
        train_step, model=totals.Scores(), objective=objective, update=Update(optax.sgd(1.0)), seed=0
    )
    return len(re.findall(r"\bdot\(|__onednn\$matmul", jax.jit(step).lower(state, batch).compile().as_text()))


def test_ratios_cost_no_second_forward_pass():
    """One product forward and one for the kernel's gradient, with micro-batches too; others need their totals first."""
    assert products(1, totals.Squares()) == products(4, totals.Squares()) == 2
    assert products(1, totals.Diversity()) == 2 and products(4, totals.Diversity()) == 3


@dataclasses.dataclass(frozen=True)
class Confident(Objective):
    """Its weight depends on what the model says."""

    def loss(self, outputs, batch):
        sure = outputs["logits"].max(axis=-1) > 0
        return {"confident_loss": (outputs["logits"].sum(), sure.sum().astype(jnp.float32))}


def test_a_weight_that_depends_on_the_outputs_is_refused():
    batch = {name: jnp.asarray(x) for name, x in totals.examples().items()}
    outputs = jax.eval_shape(lambda: ModelOutput(logits=jnp.zeros((32, 6, 16))))
    with pytest.raises(ObjectiveError, match="weight depends on the model's outputs"):
        loss_weights(Confident(), outputs, batch)
    example = {name: x[0] for name, x in batch.items()}
    with pytest.raises(ObjectiveError, match="define `sums` and `losses`"):
        check_parts(Confident(), Boxed(), example, "data")
    assert check_parts(totals.OBJECTIVE, Boxed(), example, "data") == ("depth_loss", "diversity_loss", "squares_loss")


class Boxed(totals.Scores):
    """`Scores`, which needs no ids to be made."""

    @property
    def inputs(self):
        return ("features",)

    def init(self, key, **_):
        return super().init(key, jnp.zeros((1, totals.PLACES, totals.FEATURES)))


@dataclasses.dataclass(frozen=True)
class Scheduled(Objective):
    """Its loss is multiplied by the steps done before."""

    reads = ("features", "step")

    def corrupt(self, key, example):
        return {**example, "factor": example["step"].astype(jnp.float32)}

    def loss(self, outputs, batch):
        return {"line_loss": ((outputs["logits"].mean(axis=(1, 2)) * batch["factor"]).sum(), jnp.float32(32))}


def test_an_example_knows_the_step():
    """Step 0 moves nothing, step 1 by the gradient, step 2 by twice as much; whether alone or with others."""
    for objective in (Scheduled(), Sum(Scheduled())):
        batch = {name: jnp.asarray(x)[None] for name, x in totals.examples().items()}
        optimizer = optax.sgd(1.0)
        state = Update(optimizer).first(nn.unbox(totals.Scores().init(jax.random.key(0), batch["features"][0, :1])))
        moved = []
        for _ in range(3):
            before = state.params["kernel"]
            state, _ = train_step(
                state, batch, model=totals.Scores(), objective=objective, update=Update(optimizer), seed=0
            )
            moved.append(before - state.params["kernel"])
        assert (moved[0] == 0).all() and np.abs(moved[1]).max() > 0
        np.testing.assert_allclose(moved[2], 2 * moved[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "parallel",
    [
        Parallel(devices=1),
        Parallel(devices=4),
        Parallel("jit", fsdp=2),
        Parallel(devices=1, micro_batches=4),
        Parallel("jit", fsdp=2, micro_batches=2),
    ],
    ids=str,
)
def test_any_split_has_the_gradient_of_the_whole_batch(parallel):
    expected, losses = totals.whole_batch()
    gradient, found = totals.one_step(parallel)
    assert np.linalg.norm(gradient - expected) < 1e-6 * np.linalg.norm(expected)
    assert {name: found[name] for name in losses} == pytest.approx(losses, rel=1e-6, abs=1e-6)
