"""An evaluation of a run, compiled when it is first asked."""

import dataclasses
import functools
from collections.abc import Callable

from jaxtyping import PyTree

from data.forms import Form
from evaluation.bootstrap import interval
from evaluation.evaluation import Evaluation
from evaluation.metric import Collected, Metric, State
from evaluation.metrics.objective import OfObjective
from evaluation.step import evaluation_step
from experiments.assembly.assembly import Assembly
from experiments.assembly.feed import EVALUATION_SEED
from training.state import TrainState
from training.step import corrupted


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
        examples = self.assembly.held_out(form)
        for batch, copies in self.assembly.counted_batches(form):
            found = self.step(variables, spread.put_batch(batch))
            rows = spread.rows(found["rows"])
            states = rows["metrics"].items()
            condensed = {number: self.metrics[number].condensed(state, examples) for number, state in states}
            collected.add(spread.host(found["sums"]), {**rows, "metrics": condensed}, copies)
        return [
            state if metric.summed else metric.judged(state, examples)
            for metric, state in zip(self.metrics, collected.states(), strict=True)
        ]
