"""From an experiment's description to the parts that run it, checked against one another before anything is compiled."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from data.loader import load
from data.text import Outline, Prepared
from experiments.experiment import Experiment, ExperimentError
from models import hub
from objectives import Objective, ObjectiveError, check_fit
from training.metrics import Speed
from training.parallel import Spread, logical_axes
from training.step import TrainState, corrupted, create_state, evaluation_step, forward, model_inputs, train_step

EVALUATION_SEED = 0xE7A1
"""Masks of the held-out examples: the same in every run and at every evaluation."""


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The parts of an experiment, ready to run."""

    experiment: Experiment
    data: Prepared | Outline
    model: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    spread: Spread

    def initial_state(self) -> TrainState:
        """Step 0 on the devices, from the seed or from `initial_model`."""
        if self.experiment.initial_model is not None:
            _, variables = hub.load(self.experiment.initial_model, architecture=self.experiment.architecture)
            return self.spread.put(create_state(variables["params"], self.optimizer))
        return self.spread.put(jax.device_get(nn.unbox(jax.jit(self.boxed_state)())))

    def boxed_state(self) -> TrainState:
        """Step 0 from the seed, the parameters with their logical axes."""
        return boxed_state(self.model, self.optimizer, self.experiment.seed)

    def compile_train_step(self) -> Callable:
        step = functools.partial(
            train_step,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            seed=self.experiment.seed,
        )
        return self.spread.compile(step, donate=True)

    def lower_train_step(self, phase: int) -> jax.stages.Lowered:
        """The train step of a phase, ready to be compiled: from shapes alone, on devices that need not be there."""
        experiment = self.experiment
        micro_batches = experiment.parallel.micro_batches
        example = self.data.training(experiment.phases[phase].sequence_length, experiment.seed)[0]
        batch = {
            name: jax.ShapeDtypeStruct(
                (micro_batches, experiment.batch_size // micro_batches, *value.shape), value.dtype
            )
            for name, value in example.items()
        }
        state = self.spread.shapes(jax.eval_shape(self.boxed_state))
        return self.compile_train_step().lower(state, self.spread.batch_shapes(batch))

    def compile_evaluation_step(self) -> Callable:
        step = functools.partial(evaluation_step, model=self.model, objective=self.objective, seed=EVALUATION_SEED)
        return self.spread.compile(step, donate=False)

    def batches(self, phase: int, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the training batches of a phase, from `first_step` on."""
        experiment = self.experiment
        return iter(
            load(
                self.data.training(experiment.phases[phase].sequence_length, experiment.seed),
                batch_size=experiment.batch_size,
                first_step=first_step,
                last_step=experiment.phase_ends[phase],
                shard=self.spread.share,
                micro_batches=experiment.parallel.micro_batches,
                workers=experiment.data.workers,
            )
        )

    def evaluation_batches(
        self, phase: int = -1, share: tuple[int, int] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the held-out batches `[1, rows, ...]`: chunks spread evenly over the documents."""
        process, processes = share or self.spread.share
        experiment = self.experiment
        held_out = self.data.held_out(experiment.phases[phase].sequence_length)
        size = experiment.batch_size
        count = min(experiment.evaluation_examples, len(held_out)) // size * size
        if not count:
            raise ExperimentError(
                f"the held-out documents yield {len(held_out)} examples (at most {experiment.evaluation_examples} are"
                f" used), fewer than batch_size={size}: lower it, or hold out more with --data.held-out"
            )
        rows = size // processes
        for begin in range(0, count, size):
            first = begin + process * rows
            indices = np.arange(first, first + rows) * len(held_out) // count
            yield {name: x[None] for name, x in held_out.batch(indices).items()}

    def evaluate(self, step: Callable, params: PyTree) -> dict[str, float]:
        """Losses and metrics on the held-out documents, `loss` the sum of the losses."""
        totals: dict[str, Any] = {}
        for batch in self.evaluation_batches():
            metrics = self.spread.host(step(params, self.spread.put_batch(batch)))
            for name, (amount, weight) in metrics.items():
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + float(amount), before[1] + float(weight))
        values = {name: amount / max(weight, 1.0) for name, (amount, weight) in totals.items()}
        return {"loss": sum(value for name, value in values.items() if name.endswith("_loss")), **values}

    def speed(self, phase: int, peak: float) -> Speed:
        tokens, flops = self.work(phase)
        return Speed(tokens, flops, peak)

    def work(self, phase: int) -> tuple[int, float]:
        """Tokens (padding counted) and FLOPs (3 × the model's own forward formula) of one step."""
        experiment = self.experiment
        length = experiment.phases[phase].sequence_length
        seen, _ = abstract_batch(self.objective, self.data.training(length, experiment.seed)[0], experiment.batch_size)
        predictions = seen["masked_positions"].shape[1] if "masked_positions" in seen else 0
        flops = 3 * experiment.model.forward_flops(experiment.batch_size, length, predictions)
        return experiment.batch_size * length, float(flops)

    def seen(self, batch: Mapping[str, np.ndarray], seed: int | None = None) -> dict[str, np.ndarray]:
        """A batch `[batch, ...]` as the model is to see it."""
        seed = self.experiment.seed if seed is None else seed
        return jax.device_get(jax.jit(lambda b: corrupted(self.objective, seed, b)[0])(dict(batch)))


def boxed_state(model: nn.Module, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Step 0 with the logical axes of the parameters still on them."""
    ids = jnp.zeros((1, 8), jnp.int32)
    return create_state(model.init(jax.random.key(seed, impl="threefry2x32"), ids)["params"], optimizer)


def abstract_batch(objective: Objective, example: Mapping[str, np.ndarray], batch_size: int):
    """Shapes of a corrupted batch and its dropout keys, without computing anything."""
    shapes = {
        name: jax.ShapeDtypeStruct((batch_size, *np.shape(value)), np.asarray(value).dtype)
        for name, value in example.items()
    }
    return jax.eval_shape(lambda batch: corrupted(objective, 0, batch), shapes)


def assemble(
    experiment: Experiment,
    say: Callable[[str], None] = lambda message: None,
    *,
    data: Outline | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Assembly:
    """Prepare the data, bind the objective to its vocabulary, and see that all the parts fit.

    Args:
        data: stands for the experiment's own, for steps that are compiled but not run.
        devices: to spread over; this machine's where `None`.

    Raises one of the project's errors, before anything is compiled, with a sentence that says what does not.
    """
    experiment.parallel.check_batch(experiment.batch_size, devices)
    model = hub.model_class(experiment.model.model_type, experiment.architecture)(experiment.model)
    longest = max(phase.sequence_length for phase in experiment.phases)
    if longest > experiment.model.max_position_embeddings:
        raise ExperimentError(
            f"sequence_length={longest} is longer than the model's"
            f" max_position_embeddings={experiment.model.max_position_embeddings}"
        )
    if data is None:
        data = experiment.data.prepare(experiment.model.vocab_size, Path(experiment.run_folder), say=say)
    if data.vocabulary.size > experiment.model.vocab_size:
        raise ExperimentError(
            f"the tokenizer has {data.vocabulary.size} tokens and the model's vocab_size is"
            f" {experiment.model.vocab_size}: set --model.vocab-size {data.vocabulary.size} or choose another tokenizer"
        )
    objective = experiment.objective.bind(data.vocabulary)
    example = data.training(longest, experiment.seed)[0]
    check_parts(objective, model, example, f"data source {experiment.data.source!r}")
    optimizer = experiment.optimizer.build(experiment.steps)
    axes = logical_axes(jax.eval_shape(lambda: boxed_state(model, optimizer, 0)))
    return Assembly(experiment, data, model, objective, optimizer, experiment.parallel.spread(axes, devices))


def check_parts(objective: Objective, model: nn.Module, example: Mapping[str, np.ndarray], data: str) -> None:
    """Raise `ObjectiveError` where names or shapes do not meet."""
    name = type(model).__name__
    inputs = set(model_inputs(model))
    check_fit(objective, example, {output for names in objective.asks for output in names}, data, name)
    seen, _ = abstract_batch(objective, example, 2)
    if not inputs & set(seen):
        raise ObjectiveError(f"{name} takes {', '.join(sorted(inputs))}, of which {data} gives nothing")
    params = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]))
    outputs = jax.eval_shape(lambda params, batch: forward(model, params, batch), params, seen)
    check_fit(objective, example, outputs, data, name)
    try:
        jax.eval_shape(lambda out, batch: (objective.loss(out, batch), objective.metrics(out, batch)), outputs, seen)
    except (TypeError, ValueError) as error:
        shapes = ", ".join(f"{output} {value.shape}" for output, value in outputs.items())
        raise ObjectiveError(
            f"{objective!r} cannot be computed from the outputs of {name} ({shapes}): {str(error).splitlines()[0]}"
        ) from error
