"""The evaluations of a run, ready to be asked of a state."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from evaluation.evaluation import HELD_OUT, with_held_out
from evaluation.metric import Metric, MetricError
from evaluation.metrics.objective import OfObjective
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluator import Evaluator
from experiments.assembly.heard import Hearer
from experiments.assembly.shapes import abstract_batch, boxed_frozen
from experiments.assembly.written import Writer
from experiments.experiment import ExperimentError
from inference.readers.sound import SoundReader
from inference.readers.text import TextReader
from objectives.objective import Example
from training.processes import at_first
from training.step import forward

Say = Callable[[str], None]

EVALUATORS: Mapping[Any, type[Evaluator]] = {None: Evaluator, TextReader: Writer, SoundReader: Hearer}
"""By what makes the inputs of an evaluation's task, where it has one."""


def evaluators(assembly: Assembly, say: Say) -> list[Evaluator]:
    """All evaluations of the run, that of the held-out examples first; other data are prepared."""
    if any(evaluation.data is not None for evaluation in assembly.experiment.evaluations):
        at_first(True)  # the first process has written the tokenizer
    found = []
    for evaluation in with_held_out(assembly.experiment.evaluations):
        parts = assembly if evaluation.data is None else on_other_data(assembly, evaluation.data, say)
        if evaluation.examples is not None:
            experiment = dataclasses.replace(parts.experiment, evaluation_examples=evaluation.examples)
            parts = dataclasses.replace(parts, experiment=experiment)
        found.append(EVALUATORS[None if evaluation.task is None else evaluation.task.reader](evaluation, parts))
    return sorted(found, key=lambda evaluator: evaluator.name != HELD_OUT)


def on_other_data(assembly: Assembly, data: Any, say: Say) -> Assembly:
    """The parts of a run, to be asked about all examples of another source, through the run's own tokenizer."""
    experiment = assembly.experiment
    data = data.suited_to(experiment.model.model_type).read_with(experiment.run_folder / "tokenizer.json")
    prepared = data.prepare(experiment.vocabulary_size, experiment.run_folder, say, experiment.objective.needs)
    if prepared.vocabulary.labels != assembly.data.vocabulary.labels:
        raise ExperimentError(
            f"{data.source}: its classes are not those of {experiment.data.source}, which the run knows"
        )
    return dataclasses.replace(assembly, data=prepared.all_held_out())


def check_evaluations(assembly: Assembly) -> None:
    """Raise `MetricError` where a metric does not fit the model and the data, or nothing gives the best's figure."""
    evaluations, best = with_held_out(assembly.experiment.evaluations), assembly.experiment.best
    if best.figure == "loss" and not any(evaluation.metrics for evaluation in evaluations):
        return
    seen, outputs = _shapes(assembly)
    state = jax.eval_shape(OfObjective(assembly.objective).update, outputs, seen)
    losses = jax.eval_shape(assembly.objective.losses, state["sums"])
    of_objective = {"loss", *losses, *state["metrics"]}
    known = {each.name: {*of_objective} if each.task is None else set() for each in evaluations}
    for evaluation in evaluations:
        if evaluation.task is not None:
            EVALUATORS[evaluation.task.reader](evaluation, assembly).check()
        for metric in evaluation.metrics:
            check_libraries(metric, evaluation.name)
            if evaluation.task is None:
                check_metric(metric, outputs, seen, evaluation.name)
            twice = sorted(known[evaluation.name] & {*metric.figures})
            if twice:
                raise MetricError(f"evaluation {evaluation.name}: {metric!r} and the objective both give {twice[0]!r}")
        known[evaluation.name] |= {figure for metric in evaluation.metrics for figure in metric.figures}
    name, figure = best.place
    if figure not in known.get(name, ()):
        figures = sorted(f"{name}/{figure}" for name, figures in known.items() for figure in figures)
        raise MetricError(f"best.figure={best.figure!r}: expected one of {', '.join(figures)}")


def check_libraries(metric: Metric, evaluation: str) -> None:
    """Raise where a metric is computed by a library that is not installed."""
    for library in metric.libraries:
        if importlib.util.find_spec(library) is None:
            raise MetricError(
                f"evaluation {evaluation}: {metric!r} is computed by {library}, which is not installed: pip install"
                " 'lacuna-jax[metrics]'"
            )


def check_metric(metric: Metric, outputs: Mapping[str, Any], seen: Example, evaluation: str) -> None:
    """Raise where the model does not give, or the batch does not hold, what a metric uses."""
    for names, there, what in ((metric.asks, outputs, "the model gives"), (metric.reads, seen, "the batch holds")):
        missing = [name for name in names if name not in there]
        if missing:
            raise MetricError(
                f"evaluation {evaluation}: {metric!r} wants {', '.join(missing)}; {what} {', '.join(there)}"
            )
    try:
        jax.eval_shape(metric.update, outputs, seen)
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"evaluation {evaluation}: {metric!r} cannot be computed: {str(error).splitlines()[0]}"
        ) from error


def _shapes(assembly: Assembly) -> tuple[Example, Mapping[str, Any]]:
    """Shapes of a held-out batch, as the model sees it, and of its outputs."""
    seen, _ = abstract_batch(assembly.objective, assembly.held_out()[0], 2)
    variables = nn.unbox(assembly.student.boxed_shapes())
    frozen = None if assembly.frozen_spread is None else nn.unbox(boxed_frozen(assembly.teacher.model))
    run = lambda variables, seen, frozen: forward(assembly.model, variables, seen, frozen=frozen)  # noqa: E731
    return seen, jax.eval_shape(run, variables, seen, frozen)
