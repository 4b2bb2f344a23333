"""The parts of an experiment, ready to run: what is trained, its steps, its first state."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from data.forms import Form
from experiments.assembly.feed import EVALUATION_SEED, Feed
from experiments.assembly.shapes import abstract_batch, boxed_frozen, boxed_state, boxed_state_shapes
from experiments.experiment import ExperimentError
from experiments.initial import Initial
from experiments.teacher import Teacher
from models import hub
from models.backbone import WithBackbone, placed
from models.student_teacher import as_teacher, initial_params
from objectives.objective import Example
from training.metrics import Speed
from training.parallel import Spread, logical_axes
from training.state import TrainState, Update
from training.step import forward, targets_step, train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly(Feed):
    """The parts of an experiment, ready to run.

    Attributes:
        model: what is trained; with its teacher (`StudentTeacher`) where the objective asks for one.
        update: which parameters are trained in the first phase, and how; see `at`.
        initial: the checkpoint to start from, where the experiment names one.
        teacher: where the experiment names one.
        frozen_spread: how the teacher's parameters lie on the devices; `None` where the step has no use for them.
    """

    model: nn.Module
    update: Update
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
        return self.model.members[0]

    @property
    def published_tokenizer(self) -> Path | None:
        """The file or folder that the data's tokenizer was read from; `None` where it was trained on them."""
        named = self.experiment.data.tokenizer
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

    def initial_state(self) -> TrainState:
        """Step 0 on the devices, from the seed or from `initial_model`."""
        if self.experiment.initial_model is not None:
            shapes = nn.unbox(self.student.boxed_shapes())
            variables = jax.tree.map(lambda x, shape: x.astype(shape.dtype), self.published_variables(), shapes)
            return self.spread.put(self.update.first(variables))
        if self.experiment.initial_layers is not None:
            teacher = self.teacher
            params = initial_params(self.student, teacher.model, teacher.params, self.experiment.initial_layers)
            return self.spread.put(self.update.first({"params": params}))
        return self.spread.make(lambda: nn.unbox(self.boxed_state()))

    def at(self, phase: int) -> "Assembly":
        """The parts as they are in a phase, in which other parameters may be trained, the state then having other moments."""
        trainable = self.experiment.phases[phase].trainable
        if trainable == self.update.trainable:
            return self
        update = dataclasses.replace(self.update, trainable=trainable)
        axes = logical_axes(boxed_state_shapes(self.student, update))
        return dataclasses.replace(self, update=update, spread=dataclasses.replace(self.spread, logical_axes=axes))

    def entered(self, state: TrainState) -> TrainState:
        """A state of the phase before this one, on the devices, as this one's; the memory of the former is given away."""

        def enter(state: TrainState, nothing: Example, axis: str | None = None) -> tuple[TrainState, None]:
            return self.update.entered(state), None

        return self.spread.compile(enter, donate=True)(state, {})[0]

    def state_shapes(self, step: int = 0) -> TrainState:
        """Shapes and shardings of the checkpoint of a step, to restore one where no other is made."""
        parts = self.at(self.experiment.phase_of(step))
        return parts.spread.whole_shapes(parts.boxed_state_shapes())

    def published_variables(self) -> PyTree:
        """Those of `initial_model`. Where the data have labels, or the head's outputs are of other meaning, a head that it
        lacks or has for other labels is initialised from the seed, as is what a checkpoint of another type lacks (`begins_as`);
        positions of pictures are resized."""
        experiment, config = self.experiment, self.experiment.model
        if self.initial.folder is None:
            raise ExperimentError(
                f"there is no {experiment.initial_model}, and {experiment.run_folder} has no checkpoint to go on from"
            )
        named = dict(folder=self.initial.folder, architecture=experiment.architecture, param_dtype=config.param_dtype)
        key = jax.random.key(experiment.seed, impl="threefry2x32")
        if self.initial.config.model_type != config.model_type:
            backbone = isinstance(config, WithBackbone)
            part = type(config.backbone_config.backbone()).__name__ if backbone else config.begins_as[1]
            _, variables = hub.load(**{**named, "architecture": part})
            fresh = nn.unbox(jax.jit(lambda: self.student.init(key, **self.student.blank()))())
            fresh, published = flatten_dict(fresh), flatten_dict(variables)
            published = placed(published, fresh) if backbone else published
            variables = unflatten_dict(fresh | {path: x for path, x in published.items() if path in fresh})
            hub.check_shapes(self.student, variables)
            return variables
        if self.data.vocabulary.labels or self.student.labelled is False:
            named["initialize"] = key
            named |= {"labels": config.labels} if config.labels else {}
        if config.vocab_size != self.initial.config.vocab_size:  # a vocabulary of the transcripts
            named["vocab_size"] = config.vocab_size
        model, variables = hub.load(**named)
        if config.image_size != model.config.image_size:
            model, variables = model.at_image_size(variables, config.image_size)
        hub.check_shapes(self.student, variables)
        return variables

    def boxed_state(self) -> TrainState:
        """Step 0 from the seed, the parameters with their logical axes."""
        return boxed_state(self.student, self.update, self.experiment.seed)

    def boxed_state_shapes(self) -> TrainState:
        return boxed_state_shapes(self.student, self.update)

    def compile_train_step(self, phase: int = 0) -> Callable:
        return self.given_frozen(self.at(phase)._train_step())

    def _train_step(self) -> Callable:
        step = functools.partial(
            train_step,
            model=self.model,
            objective=self.training_objective,
            update=self.update,
            seed=self.experiment.seed,
        )
        return self.spread.compile(step, donate=True)

    def given_frozen(self, step: Callable) -> Callable:
        """A compiled step that is given `frozen`, where there is any."""
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
        parts = self.at(phase)
        state = parts.spread.shapes(parts.boxed_state_shapes())
        frozen = [] if self.frozen_spread is None else [self.frozen_shapes()]
        return parts._train_step().lower(state, self.spread.batch_shapes(batch), *frozen)

    def frozen_shapes(self) -> PyTree:
        """Shapes and shardings of `frozen`."""
        return None if self.frozen_spread is None else self.frozen_spread.shapes(boxed_frozen(self.teacher.model))

    def compile_targets_step(self, training: bool = False) -> Callable:
        """Of held-out examples, or of those that are trained on."""
        objective = self.training_objective if training else self.objective
        seed = self.experiment.seed if training else EVALUATION_SEED
        step = functools.partial(targets_step, model=self.student, objective=objective, seed=seed)
        return self.spread.compile(step, donate=False)

    def asked(
        self, variables: PyTree, batch: Mapping[str, np.ndarray], pick: Callable[[Mapping[str, Any]], dict[str, Any]]
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

    def speed(self, phase: int, peak: float) -> Speed:
        return Speed(*self.work(phase), peak, self.experiment.form(phase).items)

    def work(self, phase: int) -> tuple[int, float]:
        """Items (tokens, padding counted, or images) and FLOPs of a step, in the mean over the forms of its batches."""
        works = [(share, self._work(phase, form)) for form, share in self.forms(phase).items()]
        items, flops = (sum(share * work[which] for share, work in works) for which in (0, 1))
        return round(items), flops

    def _work(self, phase: int, form: Form) -> tuple[int, float]:
        """Items and FLOPs of a step on examples of a form: 3 × the model's forward pass, 1 × its teacher's.

        Where a part of the model is trained its forward pass counts once: how far back the gradients go is not reckoned.
        """
        experiment = self.experiment
        example = self.data.training(form, experiment.seed)[0]
        seen, _ = abstract_batch(self.training_objective, example, experiment.batch_size)
        shapes = {name: value.shape for name, value in seen.items()}
        flops = (1 if experiment.phases[phase].trainable else 3) * self.student.forward_flops(shapes)
        if self.frozen_spread is not None:
            flops += self.teacher.model.forward_flops(shapes)
        return experiment.batch_size * form.amount, float(flops)
