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
from data.text import Form, Outline, Prepared
from experiments.experiment import Experiment, ExperimentError
from experiments.teacher import Teacher, open_teacher, with_teacher
from models import hub
from models.outputs import model_inputs
from models.student_teacher import FROZEN, initial_params
from objectives import Objective, ObjectiveError
from objectives.objective import check_asks, check_reads, check_takes
from training.metrics import Speed
from training.parallel import Spread, logical_axes
from training.step import TrainState, corrupted, create_state, evaluation_step, forward, train_step

EVALUATION_SEED = 0xE7A1
"""Masks of the held-out examples: the same in every run and at every evaluation."""


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The parts of an experiment, ready to run.

    Attributes:
        model: what is trained; with its teacher (`StudentTeacher`) where the objective asks for one.
        teacher: where the experiment names one.
        losses: names of the objective's losses, among its metrics.
        frozen_spread: how the teacher's parameters lie on the devices; `None` where the step has no use for them.
    """

    experiment: Experiment
    data: Prepared | Outline
    model: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    spread: Spread
    losses: tuple[str, ...]
    teacher: Teacher | None = None
    frozen_spread: Spread | None = None

    @property
    def student(self) -> nn.Module:
        """The model that is trained, without its teacher."""
        return getattr(self.model, "student", self.model)

    @functools.cached_property
    def frozen(self) -> PyTree:
        """What the steps need on the devices beside the state, and do not change; `None` where that is nothing."""
        if self.frozen_spread is None:
            return None
        return self.frozen_spread.put({FROZEN: {"teacher": self.teacher.params}})

    def description(self) -> dict[str, Any]:
        """The experiment's, with a digest of the teacher in the place of its folder, which may move."""
        described = self.experiment.description()
        return described if self.teacher is None else {**described, "teacher": self.teacher.digest}

    def form(self, phase: int) -> Form:
        """What examples a phase wants."""
        return form(self.objective, self.experiment.phases[phase].sequence_length)

    def initial_state(self) -> TrainState:
        """Step 0 on the devices, from the seed or from `initial_model`."""
        if self.experiment.initial_model is not None:
            _, variables = hub.load(self.experiment.initial_model, architecture=self.experiment.architecture)
            return self.spread.put(create_state(variables["params"], self.optimizer))
        if self.experiment.initial_layers is not None:
            teacher = self.teacher
            params = initial_params(self.student, teacher.model, teacher.params, self.experiment.initial_layers)
            return self.spread.put(create_state(params, self.optimizer))
        return self.spread.put(jax.device_get(nn.unbox(jax.jit(self.boxed_state)())))

    def boxed_state(self) -> TrainState:
        """Step 0 from the seed, the parameters with their logical axes."""
        return boxed_state(self.student, self.optimizer, self.experiment.seed)

    def compile_train_step(self) -> Callable:
        return self._given_frozen(self._train_step())

    def _train_step(self) -> Callable:
        step = functools.partial(
            train_step,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            seed=self.experiment.seed,
        )
        return self.spread.compile(step, donate=True)

    def _given_frozen(self, step: Callable) -> Callable:
        if self.frozen_spread is None:
            return step
        return lambda tree, batch: step(tree, batch, self.frozen)

    def lower_train_step(self, phase: int) -> jax.stages.Lowered:
        """The train step of a phase, ready to be compiled: from shapes alone, on devices that need not be there."""
        experiment = self.experiment
        micro_batches = experiment.parallel.micro_batches
        example = self.data.training(self.form(phase), experiment.seed)[0]
        batch = {
            name: jax.ShapeDtypeStruct(
                (micro_batches, experiment.batch_size // micro_batches, *value.shape), value.dtype
            )
            for name, value in example.items()
        }
        state = self.spread.shapes(jax.eval_shape(self.boxed_state))
        frozen = [] if self.frozen_spread is None else [self.frozen_shapes()]
        return self._train_step().lower(state, self.spread.batch_shapes(batch), *frozen)

    def frozen_shapes(self) -> PyTree:
        """Shapes and shardings of `frozen`."""
        return None if self.frozen_spread is None else self.frozen_spread.shapes(boxed_frozen(self.teacher.model))

    def compile_evaluation_step(self) -> Callable:
        step = functools.partial(evaluation_step, model=self.model, objective=self.objective, seed=EVALUATION_SEED)
        return self._given_frozen(self.spread.compile(step, donate=False))

    def batches(self, phase: int, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the training batches of a phase, from `first_step` on."""
        experiment = self.experiment
        return iter(
            load(
                self.data.training(self.form(phase), experiment.seed),
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
        held_out = self.data.held_out(self.form(phase))
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
        return {"loss": sum(values[name] for name in self.losses), **values}

    def speed(self, phase: int, peak: float) -> Speed:
        tokens, flops = self.work(phase)
        return Speed(tokens, flops, peak)

    def work(self, phase: int) -> tuple[int, float]:
        """Tokens (padding counted) and FLOPs (3 × the model's own forward formula, 1 × its teacher's) of one step."""
        experiment = self.experiment
        length = experiment.phases[phase].sequence_length
        example = self.data.training(self.form(phase), experiment.seed)[0]
        seen, _ = abstract_batch(self.objective, example, experiment.batch_size)
        shapes = {name: value.shape for name, value in seen.items()}
        if "label_positions" in shapes:  # asked at some places, but every place is projected
            shapes["masked_positions"] = shapes["input_ids"]
        flops = 3 * experiment.model.forward_flops(shapes)
        if self.frozen_spread is not None:
            flops += self.teacher.model.config.forward_flops(shapes)
        return experiment.batch_size * length, float(flops)

    def seen(self, batch: Mapping[str, np.ndarray], seed: int | None = None) -> dict[str, np.ndarray]:
        """A batch `[batch, ...]` as the model is to see it."""
        seed = self.experiment.seed if seed is None else seed
        return jax.device_get(jax.jit(lambda b: corrupted(self.objective, seed, b)[0])(dict(batch)))


def form(objective: Objective, length: int) -> Form:
    """What examples `objective` wants, for a model that reads `length` tokens."""
    return Form(tuple(objective.reads), length, objective.length_read(length), objective.overlap)


def boxed_state(model: nn.Module, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Step 0 with the logical axes of the parameters still on them."""
    ids = jnp.zeros((1, 8), jnp.int32)
    return create_state(model.init(jax.random.key(seed, impl="threefry2x32"), ids)["params"], optimizer)


def boxed_shapes(model: nn.Module) -> PyTree:
    """Shapes of a model's parameters with their logical axes still on them."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"])


def boxed_frozen(teacher: nn.Module) -> PyTree:
    """The same of a teacher, as a student that is joined with it wants them."""
    return {FROZEN: {"teacher": boxed_shapes(teacher)}}


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
    student = hub.model_class(experiment.model.model_type, experiment.architecture)(experiment.model)
    teacher = None if experiment.teacher is None else open_teacher(experiment, outlined=data is not None)
    model = with_teacher(experiment, student, teacher)
    longest = max(phase.sequence_length for phase in experiment.phases)
    room = experiment.model.longest_input
    if teacher is not None and model is not student:
        room = min((x for x in (room, teacher.model.config.longest_input) if x is not None), default=None)
    if room is not None and longest > room:
        raise ExperimentError(f"sequence_length={longest} is longer than the model has positions for: {room}")
    if data is None:
        text = experiment.data
        if teacher is not None and not text.tokenizer and teacher.tokenizer is not None:
            text = dataclasses.replace(text, tokenizer=str(teacher.tokenizer))
        data = text.prepare(
            experiment.model.vocab_size, Path(experiment.run_folder), say=say, needs=experiment.objective.needs
        )
        if teacher is not None:
            teacher.check_tokens(data.tokenizer)
    if data.vocabulary.size > experiment.model.vocab_size:
        raise ExperimentError(
            f"the tokenizer has {data.vocabulary.size} tokens and the model's vocab_size is"
            f" {experiment.model.vocab_size}: set --model.vocab-size {data.vocabulary.size} or choose another tokenizer"
        )
    objective = experiment.objective.bind(data.vocabulary)
    example = data.training(form(objective, longest), experiment.seed)[0]
    losses = check_parts(objective, model, example, f"data source {experiment.data.source!r}")
    optimizer = experiment.optimizer.build(experiment.steps)
    axes = logical_axes(jax.eval_shape(lambda: boxed_state(student, optimizer, 0)))
    frozen = None
    if model is not student:
        frozen = experiment.parallel.spread(logical_axes(boxed_frozen(teacher.model)), devices)
    spread = experiment.parallel.spread(axes, devices)
    return Assembly(experiment, data, model, objective, optimizer, spread, losses, teacher, frozen)


def check_parts(
    objective: Objective, model: nn.Module, example: Mapping[str, np.ndarray], data: str
) -> tuple[str, ...]:
    """The names of the losses; raises `ObjectiveError` where names or shapes do not meet."""
    name = type(model).__name__
    check_reads(objective, example, data)
    for part in getattr(model, "pair", (model,)):
        check_takes(objective, model_inputs(part), getattr(part, "causal", False), type(part).__name__)
    seen, _ = abstract_batch(objective, example, 2)
    if not set(model_inputs(model)) & set(seen):
        raise ObjectiveError(f"{name} takes {', '.join(model_inputs(model))}, of which {data} gives nothing")
    student, *teacher = getattr(model, "pair", (model,))
    params = nn.unbox(boxed_shapes(student))
    frozen = nn.unbox(boxed_frozen(*teacher)) if teacher else None
    outputs = jax.eval_shape(
        lambda params, batch, frozen: forward(model, params, batch, frozen=frozen), params, seen, frozen
    )
    check_asks(objective, outputs, name)
    try:
        with jax.numpy_rank_promotion("raise"):
            losses, _ = jax.eval_shape(
                lambda out, batch: (objective.loss(out, batch), objective.metrics(out, batch)), outputs, seen
            )
    except (TypeError, ValueError) as error:
        shapes = ", ".join(f"{output} {value.shape}" for output, value in outputs.items())
        raise ObjectiveError(
            f"{objective!r} cannot be computed from the outputs of {name} ({shapes}): {str(error).splitlines()[0]}"
        ) from error
    return tuple(losses)
