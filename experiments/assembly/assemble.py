"""From an experiment's description to the parts that run it, checked against one another before anything is compiled."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.linen as nn
import jax

from data.contract import Outline, Prepared
from experiments.assembly.assembly import Assembly
from experiments.assembly.checks import (
    check_length,
    check_micro_batches,
    check_parts,
    check_rates,
    decoder_start,
    longest_form,
)
from experiments.assembly.shapes import boxed_frozen, boxed_state_shapes
from experiments.experiment import Experiment
from experiments.initial import Initial, check_published_tokens, open_initial, with_published_tokens
from experiments.run_folder import own_tokenizer
from experiments.teacher import Teacher, open_teacher, with_teacher
from models import hub
from models.config import ModelConfig
from models.kernels.platform import TPUS, attention_version
from models.layers.axes import axes_of
from objectives import Augmented, Objective
from training.parallel import TrainingError, logical_axes
from training.progress import working
from training.state import Update

Say = Callable[[str], None]


def assemble(
    experiment: Experiment,
    say: Say = lambda message: None,
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
    outlined, device = data is not None, experiment.parallel.mesh(devices).devices.flat[0]
    initial = None if experiment.initial_model is None else open_initial(experiment, outlined)
    with working(f"opening the teacher {experiment.teacher}", say):
        attention = _on(device, experiment).attention
        teacher = None if experiment.teacher is None else open_teacher(experiment, outlined, attention)
    if initial is not None:
        experiment = initial.adopted_by(experiment, say)
    student = _model(experiment.architecture, _on(device, experiment))
    check_micro_batches(student, experiment)
    check_rates(student, experiment)
    check_length(experiment, student, with_teacher(experiment, student, teacher))
    if data is None:
        data = _prepare(experiment, initial, teacher, say)
        start = decoder_start(experiment.objective.bind(data.vocabulary))
        experiment = dataclasses.replace(experiment, model=data.adapt(experiment.model, start))
        student = _model(experiment.architecture, _on(device, experiment))
    return _join(experiment, data, student, initial=initial, teacher=teacher, say=say, devices=devices)


def _on(device: jax.Device, experiment: Experiment) -> ModelConfig:
    """The config of the model, with what computes its attention on this device."""
    config = experiment.model
    version = attention_version(config.attention, device) if config.attention_kernel else "reference"
    if version == "kernel" and device.platform != "cpu" and device.device_kind not in TPUS:
        raise TrainingError(
            f"model.attention=kernel: there is none for {device.device_kind}, only for {', '.join(TPUS)}; auto takes the"
            " reference elsewhere"
        )
    return dataclasses.replace(config, attention=version)


def _model(architecture: str, config: ModelConfig) -> nn.Module:
    return hub.model_class(config.model_type, architecture)(config)


def _prepare(experiment: Experiment, initial: Initial | None, teacher: Teacher | None, say: Say) -> Prepared:
    """The experiment's data; texts in the tokens of its checkpoint where it has one, in its run's where it goes on."""
    source = with_published_tokens(experiment.data.suited_to(experiment.model.model_type), initial, teacher)
    trained = own_tokenizer(experiment)
    if trained is not None and source.trains_tokenizer:
        source = source.read_with(trained, trained_here=True)
    data = source.prepare(
        experiment.vocabulary_size, Path(experiment.run_folder), say=say, needs=experiment.objective.needs
    )
    check_published_tokens(data.tokenizer, initial, teacher)
    return data


def _bound(experiment: Experiment, data: Prepared | Outline) -> tuple[Objective, Objective]:
    """The objective as it is asked of held-out examples and of those to train on, bound to the data's vocabulary."""
    objective = experiment.objective.bind(data.vocabulary)
    augmentation = experiment.data.augmentation
    if augmentation is None:
        return objective, objective
    return Augmented(objective, augmentation, False), Augmented(objective, augmentation, True)


def _join(
    experiment: Experiment,
    data: Prepared | Outline,
    student: nn.Module,
    *,
    initial: Initial | None,
    teacher: Teacher | None,
    say: Say,
    devices: Sequence[jax.Device] | None,
) -> Assembly:
    """The assembly of parts that are there, each held against the others."""
    model = with_teacher(experiment, student, teacher)
    objective, training_objective = _bound(experiment, data)
    with working("seeing that model, objective and data fit one another", say):
        example = data.training(longest_form(experiment).read_by(training_objective), experiment.seed)[0]
        losses = check_parts(training_objective, model, example, f"data source {experiment.data.source!r}")
        optimizer = experiment.optimizer.build(
            experiment.steps, student.depth, axes_of(student.boxed_shapes()["params"])
        )
        updates = [Update(optimizer, phase.trainable, experiment.average_decay) for phase in experiment.phases]
        axes = [logical_axes(boxed_state_shapes(student, update)) for update in updates]
    frozen = None
    if model is not student:
        frozen = experiment.parallel.spread(logical_axes(boxed_frozen(teacher.model)), devices)
    return Assembly(
        experiment=experiment,
        data=data,
        objective=objective,
        training_objective=training_objective,
        spread=experiment.parallel.spread(axes[0], devices),
        losses=losses,
        model=model,
        update=updates[0],
        initial=initial,
        teacher=teacher,
        frozen_spread=frozen,
    )
