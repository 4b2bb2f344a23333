"""Whether the parts of an experiment fit one another, by names and by shapes; nothing is computed."""

import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from data.forms import Form
from experiments.assembly.shapes import abstract_batch, boxed_frozen
from experiments.experiment import Experiment, ExperimentError
from models.layers.axes import axes_of
from models.model import Model
from objectives import Objective, ObjectiveError
from objectives.checks import check_asks, check_reads, check_takes, loss_weights
from training.step import forward


def decoder_start(objective: Objective) -> int | None:
    """The id that an objective has a decoder read first; `None` of one that asks no decoder."""
    parts = getattr(objective, "parts", None) or (getattr(objective, "inner", None),)
    starts = (decoder_start(part) for part in parts if part is not None)
    return getattr(objective, "start_id", next((start for start in starts if start is not None), None))


def check_micro_batches(model: Model, experiment: Experiment) -> None:
    """Raise where micro-batches would each see batch norms of their own."""
    if model.batch_statistics and experiment.parallel.micro_batches > 1:
        raise ExperimentError(
            f"{experiment.architecture} normalises by the statistics of the whole batch, which micro-batches do not see:"
            " set --parallel.micro-batches 1, or --model.freeze-batch-norm"
        )


def check_rates(model: Model, experiment: Experiment) -> None:
    """Raise where some parameters should be slower, and the model has none of them."""
    pattern = getattr(experiment.optimizer, "slower", "")
    paths = axes_of(model.boxed_shapes()["params"])
    if pattern and not any(re.search(pattern, path) for path in paths):
        some = ", ".join(sorted(paths)[:3])
        raise ExperimentError(f"optimizer.slower={pattern!r}: the path of no parameter has this in it, such as {some}")


def longest_form(experiment: Experiment) -> Form:
    """That of the phase with the longest examples."""
    return max(map(experiment.form, range(len(experiment.phases))), key=lambda form: form.length)


def check_length(experiment: Experiment, *models: Model) -> None:
    """Raise where an example is longer than one of the models has positions for."""
    longest = longest_form(experiment)
    rooms = (part.longest(name) for model in models for part in model.members for name in part.inputs)
    room = min((room for room in rooms if room is not None), default=None)
    if room is not None and longest.most_tokens > room:
        raise ExperimentError(f"{longest!r} is longer than the model has positions for: {room}")


def check_parts(objective: Objective, model: Model, example: Mapping[str, np.ndarray], data: str) -> tuple[str, ...]:
    """The names of the losses; raises `ObjectiveError` where names or shapes do not meet."""
    name = type(model).__name__
    check_reads(objective, example, data)
    for part in model.members:
        check_takes(objective, part.inputs, part.causal, type(part).__name__)
    seen, _ = abstract_batch(objective, example, 2)
    if not set(model.inputs) & set(seen):
        raise ObjectiveError(f"{name} takes {', '.join(model.inputs)}, of which {data} gives nothing")
    student, *teacher = model.members
    variables = nn.unbox(student.boxed_shapes())
    frozen = nn.unbox(boxed_frozen(*teacher)) if teacher else None
    outputs = jax.eval_shape(
        lambda variables, batch, frozen: forward(model, variables, batch, frozen=frozen), variables, seen, frozen
    )
    check_asks(objective, outputs, name)
    objective.check_config(student.config)
    try:
        with jax.numpy_rank_promotion("raise"):
            losses, metrics = jax.eval_shape(
                lambda out, batch: (objective.losses(objective.sums(out, batch)), objective.metrics(out, batch)),
                outputs,
                seen,
            )
            if objective.ratios:
                jax.eval_shape(lambda batch: loss_weights(objective, outputs, batch), seen)
    except ObjectiveError:
        raise
    except (TypeError, ValueError) as error:
        shapes = ", ".join(f"{output} {value.shape}" for output, value in outputs.items() if hasattr(value, "shape"))
        raise ObjectiveError(
            f"{objective!r} cannot be computed from the outputs of {name} ({shapes}): {str(error).splitlines()[0]}"
        ) from error
    both = sorted(set(losses) & set(metrics))
    if both:
        raise ObjectiveError(f"{objective!r} gives {both[0]!r} as a loss and as a metric: rename one")
    return tuple(losses)
