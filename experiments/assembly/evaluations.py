"""The evaluations of a run, ready to be asked of a state."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from data.forms import Form
from evaluation.bootstrap import interval
from evaluation.evaluation import HELD_OUT, Evaluation, with_held_out
from evaluation.metric import Collected, Metric, MetricError, State
from evaluation.metrics.objective import OfObjective
from evaluation.step import evaluation_step
from experiments.assembly.assembly import Assembly
from experiments.assembly.feed import EVALUATION_SEED
from experiments.assembly.shapes import abstract_batch, boxed_frozen, boxed_shapes
from experiments.experiment import ExperimentError
from objectives.objective import Example
from training.processes import at_first
from training.state import TrainState
from training.step import corrupted, forward

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """An evaluation of a run, compiled when it is first asked.

    Attributes:
        assembly: of the run, its data those of the evaluation.
    """

    evaluation: Evaluation
    assembly: Assembly

    @property
    def name(self) -> str:
        return self.evaluation.name

    @property
    def every(self) -> int:
        """Steps between two evaluations."""
        return self.evaluation.every or self.assembly.experiment.evaluate_every

    @functools.cached_property
    def metrics(self) -> tuple[Metric, ...]:
        return OfObjective(self.assembly.objective), *self.evaluation.metrics

    @functools.cached_property
    def step(self) -> Callable:
        parts = self.assembly
        step = functools.partial(
            evaluation_step,
            model=parts.model,
            see=lambda batch: corrupted(parts.objective, EVALUATION_SEED, batch, parts.experiment.steps)[0],
            metrics=self.metrics,
        )
        return parts.given_frozen(parts.spread.compile(step, donate=False))

    def __call__(self, state: TrainState, form: Form | None = None) -> dict[str, float]:
        """The figures; `average_…` are those of the average over the steps, where there is one.

        Args:
            form: of the examples, where not the last phase's.
        """
        return self._with_average(self._figures(self.states(state.variables, form)), state, form)

    def with_intervals(self, state: TrainState) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        """The figures, as when called, and {figure: (low, high)} at 95 % of the metrics that keep rows, of one pass over the
        examples."""
        states, intervals = self.states(state.variables), {}
        for metric, rows in zip(self.metrics, states, strict=True):
            if not metric.summed:
                intervals |= interval(metric.compute, rows)
        return self._with_average(self._figures(states), state, None), intervals

    def _with_average(self, values: dict[str, float], state: TrainState, form: Form | None) -> dict[str, float]:
        if state.average is None:
            return values
        averaged = self._figures(self.states(state.average, form))
        return values | {f"average_{name}": value for name, value in averaged.items()}

    def _figures(self, states: list[State]) -> dict[str, float]:
        figures = (metric.compute(state) for metric, state in zip(self.metrics, states, strict=True))
        return {name: value for some in figures for name, value in some.items()}

    def states(self, variables: PyTree, form: Form | None = None) -> list[State]:
        """The sums, or the judged rows, of each metric over all examples, the same in every process."""
        collected, spread = Collected(self.metrics), self.assembly.spread
        for batch, copies in self.assembly.counted_batches(form):
            found = self.step(variables, spread.put_batch(batch))
            collected.add(spread.host(found["sums"]), spread.rows(found["rows"]), copies)
        examples = self.assembly.held_out(form)
        return [
            state if metric.summed else metric.judged(state, examples)
            for metric, state in zip(self.metrics, collected.states(), strict=True)
        ]


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
        found.append(Evaluator(evaluation, parts))
    return sorted(found, key=lambda evaluator: evaluator.name != HELD_OUT)


def on_other_data(assembly: Assembly, data: Any, say: Say) -> Assembly:
    """The parts of a run, to be asked about all examples of another source, through the run's own tokenizer."""
    experiment = assembly.experiment
    data = data.read_with(experiment.run_folder / "tokenizer.json")
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
    known = {evaluation.name: {"loss", *losses, *state["metrics"]} for evaluation in evaluations}
    for evaluation in evaluations:
        for metric in evaluation.metrics:
            check_metric(metric, outputs, seen, evaluation.name)
            twice = sorted(known[evaluation.name] & {*metric.figures})
            if twice:
                raise MetricError(f"evaluation {evaluation.name}: {metric!r} and the objective both give {twice[0]!r}")
        known[evaluation.name] |= {figure for metric in evaluation.metrics for figure in metric.figures}
    name, figure = best.place
    if figure not in known.get(name, ()):
        figures = sorted(f"{name}/{figure}" for name, figures in known.items() for figure in figures)
        raise MetricError(f"best.figure={best.figure!r}: expected one of {', '.join(figures)}")


def check_metric(metric: Metric, outputs: Mapping[str, Any], seen: Example, evaluation: str) -> None:
    """Raise where the model does not give, or the batch does not hold, what a metric uses."""
    for names, there, what in ((metric.asks, outputs, "the model gives"), (metric.reads, seen, "the batch holds")):
        missing = [name for name in names if name not in there]
        if missing:
            raise MetricError(
                f"evaluation {evaluation}: {metric!r} wants {', '.join(missing)}; {what} {', '.join(there)}"
            )
    for library in metric.libraries:
        if importlib.util.find_spec(library) is None:
            raise MetricError(
                f"evaluation {evaluation}: {metric!r} is computed by {library}, which is not installed: pip install"
                " 'lacuna-jax[metrics]'"
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
    variables = nn.unbox(boxed_shapes(assembly.student))
    frozen = None if assembly.frozen_spread is None else nn.unbox(boxed_frozen(assembly.teacher.model))
    run = lambda variables, seen, frozen: forward(assembly.model, variables, seen, frozen=frozen)  # noqa: E731
    return seen, jax.eval_shape(run, variables, seen, frozen)
