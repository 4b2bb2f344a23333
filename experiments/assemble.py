"""From an experiment's description to the parts that run it, checked against one another before anything is compiled."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jaxtyping import PyTree

from data.loader import load
from data.text.source import Form, Outline, Prepared
from experiments.experiment import Experiment, ExperimentError
from experiments.initial import Initial, check_published_tokens, open_initial, with_published_tokens
from experiments.run_folder import own_tokenizer
from experiments.teacher import Teacher, open_teacher, with_teacher
from models import hub
from models.outputs import blank_inputs, model_inputs
from models.student_teacher import as_teacher, initial_params
from objectives import Augmented, Objective, ObjectiveError
from objectives.objective import Example, check_asks, check_reads, check_takes
from training.metrics import Speed
from training.parallel import Spread, logical_axes
from training.progress import working
from training.stacks import axes_of
from training.step import (
    TrainState,
    answers_step,
    corrupted,
    create_state,
    evaluation_step,
    forward,
    mean,
    train_step,
)

EVALUATION_SEED = 0xE7A1
"""Masks of the held-out examples: the same in every run and at every evaluation."""


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The parts of an experiment, ready to run.

    Attributes:
        model: what is trained; with its teacher (`StudentTeacher`) where the objective asks for one.
        initial: the checkpoint to start from, where the experiment names one.
        teacher: where the experiment names one.
        objective: what is asked of held-out examples.
        training_objective: the same of training examples, which an image source augments.
        losses: names of the objective's losses, among its metrics.
        frozen_spread: how the teacher's parameters lie on the devices; `None` where the step has no use for them.
    """

    experiment: Experiment
    data: Prepared | Outline
    model: nn.Module
    objective: Objective
    training_objective: Objective
    optimizer: optax.GradientTransformation
    spread: Spread
    losses: tuple[str, ...]
    initial: Initial | None = None
    teacher: Teacher | None = None
    frozen_spread: Spread | None = None

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation that the channels of pictures are normalised with."""
        augmentation = self.experiment.data.augmentation
        return augmentation.image_mean, augmentation.image_std

    @property
    def student(self) -> nn.Module:
        """The model that is trained, without its teacher."""
        return getattr(self.model, "student", self.model)

    @property
    def published_tokenizer(self) -> Path | None:
        """The file or folder that the data's tokenizer was read from; `None` where it was trained on them."""
        named = getattr(self.experiment.data, "tokenizer", "")
        opened = (checkpoint.tokenizer for checkpoint in (self.initial, self.teacher) if checkpoint is not None)
        return Path(named).expanduser() if named else next(opened, None)

    @functools.cached_property
    def frozen(self) -> PyTree:
        """What the steps need on the devices beside the state, and do not change; `None` where that is nothing."""
        if self.frozen_spread is None:
            return None
        return self.frozen_spread.put(as_teacher(self.teacher.variables))

    def description(self) -> dict[str, Any]:
        """The experiment's, with digests of the initial model and the teacher in the place of their folders, which may move."""
        opened = {"initial_model": self.initial, "teacher": self.teacher}
        digests = {name: checkpoint.digest for name, checkpoint in opened.items() if checkpoint is not None}
        return self.experiment.description() | digests

    def form(self, phase: int, held_out: bool = False) -> Form:
        """What examples a phase wants, to train on or to be held out."""
        objective = self.objective if held_out else self.training_objective
        return form(objective, self.experiment.length(phase))

    def initial_state(self) -> TrainState:
        """Step 0 on the devices, from the seed or from `initial_model`."""
        if self.experiment.initial_model is not None:
            shapes = nn.unbox(boxed_shapes(self.student))
            variables = jax.tree.map(lambda x, shape: x.astype(shape.dtype), self.published_variables(), shapes)
            return self.spread.put(create_state(variables, self.optimizer, self.averaged))
        if self.experiment.initial_layers is not None:
            teacher = self.teacher
            params = initial_params(self.student, teacher.model, teacher.params, self.experiment.initial_layers)
            return self.spread.put(create_state({"params": params}, self.optimizer, self.averaged))
        return self.spread.make(lambda: nn.unbox(self.boxed_state()))

    def state_shapes(self) -> TrainState:
        """Shapes and shardings of a checkpoint's state, to restore one where no other is made."""
        return self.spread.whole_shapes(jax.eval_shape(self.boxed_state))

    def published_variables(self) -> PyTree:
        """Those of `initial_model`. Of an image model a head that it lacks, or has for other labels, is made anew, and
        positions are resized."""
        experiment, config = self.experiment, self.experiment.model
        if self.initial.folder is None:
            raise ExperimentError(
                f"there is no {experiment.initial_model}, and {experiment.run_folder} has no checkpoint to go on from"
            )
        named = dict(folder=self.initial.folder, architecture=experiment.architecture, param_dtype=config.param_dtype)
        if experiment.data.items == "images":
            key = jax.random.key(experiment.seed, impl="threefry2x32")
            labels = {"labels": config.labels} if hasattr(config, "labels") else {}
            model, variables = hub.load(**named, initialize=key, **labels)
            size = getattr(config, "image_size", None)
            if size != getattr(model.config, "image_size", None):
                model, variables = hub.at_image_size(model, variables, size)
        else:
            _, variables = hub.load(**named)
        hub.check_shapes(self.student, variables)
        return variables

    @property
    def averaged(self) -> bool:
        return self.experiment.average_decay is not None

    def boxed_state(self) -> TrainState:
        """Step 0 from the seed, the parameters with their logical axes."""
        return boxed_state(self.student, self.optimizer, self.experiment.seed, self.averaged)

    def compile_train_step(self) -> Callable:
        return self._given_frozen(self._train_step())

    def _train_step(self) -> Callable:
        step = functools.partial(
            train_step,
            model=self.model,
            objective=self.training_objective,
            optimizer=self.optimizer,
            seed=self.experiment.seed,
            average_decay=self.experiment.average_decay,
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

    def compile_answers_step(self, training: bool = False) -> Callable:
        """Of held-out examples, or of those that are trained on."""
        objective = self.training_objective if training else self.objective
        seed = self.experiment.seed if training else EVALUATION_SEED
        step = functools.partial(answers_step, model=self.student, objective=objective, seed=seed)
        return self.spread.compile(step, donate=False)

    def asked(
        self,
        variables: PyTree,
        batch: Mapping[str, np.ndarray],
        pick: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, np.ndarray]:
        """What `pick` takes of the student's outputs on a batch `[rows, ...]`, computed where the variables lie.

        Args:
            variables: on the devices, as the steps want them.
            batch: as the model is to see it, the same in every process.
            pick: outputs → arrays `[rows, ...]`; every process gets all of them.
        """

        def step(variables: PyTree, batch: Example, axis: str | None = None) -> dict[str, Any]:
            return pick(forward(self.student, variables, {name: x[0] for name, x in batch.items()}))

        rows, shards = len(next(iter(batch.values()))), self.spread.mesh.shape["data"] * self.spread.mesh.shape["fsdp"]
        numbers = np.arange(-(-rows // shards) * shards) % rows  # as many as divide among the devices
        process, processes = self.spread.share
        mine = numbers.reshape(processes, -1)[process]
        given = self.spread.put_batch({name: np.asarray(x)[mine][None] for name, x in batch.items()})
        found = self.spread.rows(self.spread.compile(step, donate=False)(variables, given))
        return {name: x[:rows] for name, x in found.items()}

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

    def held_out(self, length: int | None = None) -> Any:
        """The held-out examples, of the last phase's length where none is given."""
        form_ = self.form(-1, held_out=True)
        return self.data.held_out(form_ if length is None else form(self.objective, length))

    def evaluation_batches(
        self, length: int | None = None, share: tuple[int, int] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the held-out batches `[1, rows, ...]`: examples spread evenly over the documents.

        The last batch is smaller, where they do not divide. Where its examples do not divide among the devices either, each
        is there several times, as often as the others of that batch: its sums and weights are to be divided by that.

        Args:
            length: of the examples, where not the last phase's.
            share: (k, n) in the place of this process'; then no example is there twice.
        """
        process, processes = share or self.spread.share
        experiment = self.experiment
        held_out = self.held_out(length)
        count = min(experiment.evaluation_examples, len(held_out))
        for begin in range(0, count, experiment.batch_size):
            numbers = np.arange(begin, min(begin + experiment.batch_size, count))
            numbers = np.repeat(numbers, 1 if share else self._copies(len(numbers)))
            mine = numbers.reshape(processes, -1)[process] * len(held_out) // count
            yield {name: x[None] for name, x in held_out.batch(mine).items()}

    def counted_batches(self, length: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """This process' share of the held-out batches, and how often each example of a batch is there."""
        left = min(self.experiment.evaluation_examples, len(self.held_out(length)))
        for batch in self.evaluation_batches(length):
            examples = min(left, self.experiment.batch_size)
            left -= examples
            yield batch, self._copies(examples)

    def last_batches(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """This process' share of the last training batches, with about as many examples as are held out; each is there once."""
        steps, ends = self.experiment.steps, [0, *self.experiment.phase_ends]
        wanted = -(-self.experiment.evaluation_examples // self.experiment.batch_size)
        for batch in self.batches(len(ends) - 2, max(ends[-2], steps - wanted)):
            yield batch, 1

    def _copies(self, examples: int) -> int:
        """How often each of so many held-out examples must be there for them to divide among the devices."""
        shards = self.spread.mesh.shape["data"] * self.spread.mesh.shape["fsdp"]
        return shards // math.gcd(examples, shards)

    def evaluate(self, step: Callable, state: TrainState, length: int | None = None) -> dict[str, float]:
        """Losses and metrics on the held-out documents, `loss` the sum of the losses; `average_…` are those of the
        average over the steps, where there is one."""
        values = self._evaluate(step, state.variables, length)
        if state.average is not None:
            averaged = self._evaluate(step, state.average, length)
            values |= {f"average_{name}": value for name, value in averaged.items()}
        return values

    def _evaluate(self, step: Callable, variables: PyTree, length: int | None) -> dict[str, float]:
        totals: dict[str, Any] = {}
        for batch, copies in self.counted_batches(length):
            metrics = self.spread.host(step(variables, self.spread.put_batch(batch)))
            for name, (amount, weight) in metrics.items():
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + float(amount) / copies, before[1] + float(weight) / copies)
        values = {name: mean(amount, weight) for name, (amount, weight) in totals.items()}
        return {"loss": sum(values[name] for name in self.losses), **values}

    def speed(self, phase: int, peak: float) -> Speed:
        return Speed(*self.work(phase), peak, self.experiment.data.items)

    def work(self, phase: int) -> tuple[int, float]:
        """Items (tokens, padding counted, or images) and FLOPs of a step: 3 × the model's forward formula, 1 × its teacher's."""
        experiment = self.experiment
        example = self.data.training(self.form(phase), experiment.seed)[0]
        seen, _ = abstract_batch(self.training_objective, example, experiment.batch_size)
        shapes = {name: value.shape for name, value in seen.items()}
        if "label_positions" in shapes:  # asked at some places, but every place is projected
            shapes["masked_positions"] = shapes["input_ids"]
        flops = 3 * experiment.model.forward_flops(shapes)
        if self.frozen_spread is not None:
            flops += self.teacher.model.config.forward_flops(shapes)
        items = experiment.length(phase) if experiment.data.items == "tokens" else 1
        return experiment.batch_size * items, float(flops)

    def seen(self, batch: Mapping[str, np.ndarray], seed: int | None = None) -> dict[str, np.ndarray]:
        """A batch `[batch, ...]` of training examples, or of held-out ones with `EVALUATION_SEED`, as the model is to see it."""
        objective = self.objective if seed == EVALUATION_SEED else self.training_objective
        seed = self.experiment.seed if seed is None else seed
        return jax.device_get(jax.jit(lambda b: corrupted(objective, seed, b)[0])(dict(batch)))


def form(objective: Objective, length: int) -> Form:
    """What examples `objective` wants, for a model that reads `length` tokens."""
    return Form(tuple(objective.reads), length, objective.length_read(length), objective.overlap)


def boxed_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, averaged: bool = False
) -> TrainState:
    """Step 0 with the logical axes of the parameters still on them."""
    variables = model.init(jax.random.key(seed, impl="threefry2x32"), **blank_inputs(model))
    return create_state(variables, optimizer, averaged)


def boxed_shapes(model: nn.Module) -> dict[str, PyTree]:
    """Shapes of a model's variables with their logical axes still on them."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), **blank_inputs(model)))


def boxed_frozen(teacher: nn.Module) -> PyTree:
    """The same of a teacher's, as a student that is joined with it wants them."""
    return as_teacher(boxed_shapes(teacher))


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
    outlined = data is not None
    initial = None if experiment.initial_model is None else open_initial(experiment, outlined)
    with working(f"opening the teacher {experiment.teacher}", say):
        teacher = None if experiment.teacher is None else open_teacher(experiment, outlined)
    if data is None and experiment.data.items == "images":
        data = experiment.data.prepare(0, experiment.run_folder, say)
        experiment = dataclasses.replace(experiment, model=data.adapt(experiment.model))
    if initial is not None:
        experiment = initial.adopted_by(experiment, say)
    student = hub.model_class(experiment.model.model_type, experiment.architecture)(experiment.model)
    moving = getattr(student, "batch_statistics", False) and not getattr(experiment.model, "freeze_batch_norm", False)
    if moving and experiment.parallel.micro_batches > 1:
        raise ExperimentError(
            f"{experiment.architecture} normalises by the statistics of the whole batch, which micro-batches do not see:"
            " set --parallel.micro-batches 1, or --model.freeze-batch-norm"
        )
    model = with_teacher(experiment, student, teacher)
    longest = max(map(experiment.length, range(len(experiment.phases))))
    room = experiment.model.longest_input
    if teacher is not None and model is not student:
        room = min((x for x in (room, teacher.model.config.longest_input) if x is not None), default=None)
    if room is not None and longest > room:
        raise ExperimentError(f"sequence_length={longest} is longer than the model has positions for: {room}")
    if data is None:
        source, size = experiment.data.suited_to(experiment.model.model_type), experiment.vocabulary_size
        source = with_published_tokens(source, initial, teacher)
        trained, trained_here = own_tokenizer(experiment), source.tokenizer == ""
        if trained is not None and trained_here:
            source = dataclasses.replace(source, tokenizer=str(trained))
        data = source.prepare(size, Path(experiment.run_folder), say=say, needs=experiment.objective.needs)
        data = dataclasses.replace(data, trained_here=trained_here)
        check_published_tokens(data.tokenizer, initial, teacher)
        start = decoder_start(experiment.objective.bind(data.vocabulary))
        experiment = dataclasses.replace(experiment, model=data.adapt(experiment.model, start))
        student = student.clone(config=experiment.model)
        model = with_teacher(experiment, student, teacher)
    objective = training_objective = experiment.objective.bind(data.vocabulary)
    augmentation = experiment.data.augmentation
    if augmentation is not None:
        objective, training_objective = (Augmented(objective, augmentation, training) for training in (False, True))
    with working("seeing that model, objective and data fit one another", say):
        example = data.training(form(training_objective, longest), experiment.seed)[0]
        losses = check_parts(training_objective, model, example, f"data source {experiment.data.source!r}")
        optimizer = experiment.optimizer.build(
            experiment.steps, getattr(student, "layer_depths", None), axes_of(boxed_shapes(student)["params"])
        )
        axes = logical_axes(
            jax.eval_shape(lambda: boxed_state(student, optimizer, 0, experiment.average_decay is not None))
        )
    frozen = None
    if model is not student:
        frozen = experiment.parallel.spread(logical_axes(boxed_frozen(teacher.model)), devices)
    spread = experiment.parallel.spread(axes, devices)
    return Assembly(
        experiment, data, model, objective, training_objective, optimizer, spread, losses, initial, teacher, frozen
    )


def decoder_start(objective: Objective) -> int | None:
    """The id that an objective has a decoder read first; `None` of one that asks no decoder."""
    parts = getattr(objective, "parts", None) or (getattr(objective, "inner", None),)
    starts = (decoder_start(part) for part in parts if part is not None)
    return getattr(objective, "start_id", next((start for start in starts if start is not None), None))


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
    variables = nn.unbox(boxed_shapes(student))
    frozen = nn.unbox(boxed_frozen(*teacher)) if teacher else None
    outputs = jax.eval_shape(
        lambda variables, batch, frozen: forward(model, variables, batch, frozen=frozen), variables, seen, frozen
    )
    check_asks(objective, outputs, name)
    objective.check_config(getattr(student, "config", None))
    try:
        with jax.numpy_rank_promotion("raise"):
            losses, metrics = jax.eval_shape(
                lambda out, batch: (objective.loss(out, batch), objective.metrics(out, batch)), outputs, seen
            )
    except (TypeError, ValueError) as error:
        shapes = ", ".join(f"{output} {value.shape}" for output, value in outputs.items())
        raise ObjectiveError(
            f"{objective!r} cannot be computed from the outputs of {name} ({shapes}): {str(error).splitlines()[0]}"
        ) from error
    both = sorted(set(losses) & set(metrics))
    if both:
        raise ObjectiveError(f"{objective!r} gives {both[0]!r} as a loss and as a metric: rename one")
    return tuple(losses)
