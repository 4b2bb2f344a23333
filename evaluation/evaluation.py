"""What is measured during a run, on which examples and how often, and which figure decides which checkpoint is best."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from evaluation.metric import Metric, MetricError
from evaluation.text_metric import TextMetric
from inference.tasks.automatic_speech_recognition import AutomaticSpeechRecognition
from inference.writing import Writing

HELD_OUT = "held_out"
"""The evaluation that every run has: the objective's losses on the held-out examples of its data."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Losses of the objective and figures of metrics, on the examples of one data source; or, with a task, figures of what the
    model writes there.

    Attributes:
        name: of the lines in `metrics.jsonl`. `held_out` is the evaluation of the experiment's held-out examples.
        metrics: beside the losses and metrics of the objective; with a task of written text alone.
        data: source of the examples, all of which are evaluated; the experiment's held-out ones where `None`.
        every: steps between evaluations; the experiment's `evaluate_every` where `None`.
        examples: evaluate at most so many; the experiment's `evaluation_examples` where `None`.
        task: what has the model write, with its settings of generation, which the exported folder then has, too.
    """

    name: str = HELD_OUT
    metrics: tuple[Metric, ...] = ()
    data: Any = None
    every: int | None = None
    examples: int | None = None
    task: Writing | AutomaticSpeechRecognition | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == "train":
            raise MetricError(f"an evaluation cannot be called {self.name!r}: take a word, and not train")
        if self.name == HELD_OUT and self.data is not None:
            raise MetricError(
                "the evaluation held_out is of the experiment's data: give one of other data another name"
            )
        if self.name == HELD_OUT and self.task is not None:
            raise MetricError("the evaluation held_out is of the losses: give one of written text another name")
        for metric in self.metrics:
            if isinstance(metric, TextMetric) != (self.task is not None):
                raise MetricError(
                    f"evaluation {self.name}: {metric!r} is {'of written text' if self.task is None else 'not of written text'}:"
                    f" {'give the evaluation a task, such as Summarization()' if self.task is None else 'leave the task out'}"
                )
        for number in (self.every, self.examples):
            if number is not None and number < 1:
                raise MetricError(f"evaluation {self.name}: {number} is no number of steps or examples")
        figures = [figure for metric in self.metrics for figure in metric.figures]
        twice = sorted({figure for figure in figures if figures.count(figure) > 1})
        if twice:
            raise MetricError(f"evaluation {self.name}: two metrics give {twice[0]!r}")


@dataclasses.dataclass(frozen=True)
class Best:
    """The figure that decides which checkpoint is best.

    Attributes:
        figure: its name, `f1`; of another evaluation than `held_out` with its name, `test/f1`.
        more_is_better: whether the highest is the best.
    """

    figure: str = "loss"
    more_is_better: bool = False

    @property
    def named(self) -> bool:
        """Whether a figure was chosen: of a run that names none the last checkpoint counts."""
        return self.figure != "loss"

    @property
    def place(self) -> tuple[str, str]:
        """The names of the evaluation and of its figure."""
        evaluation, _, figure = self.figure.rpartition("/")
        return evaluation or HELD_OUT, figure

    def of(self, values: Mapping[str, Mapping[str, float]]) -> float | None:
        """The figure among {evaluation: {figure: value}}; `None` where its evaluation is not there."""
        evaluation, figure = self.place
        return values[evaluation][figure] if evaluation in values else None

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is better than the second."""
        return one > other if self.more_is_better else one < other


def with_held_out(evaluations: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
    """The evaluations of a run: those listed, and `held_out` before them where it is not among them."""
    names = [evaluation.name for evaluation in evaluations]
    for name in names:
        if names.count(name) > 1:
            raise MetricError(f"two evaluations are called {name!r}")
    return evaluations if HELD_OUT in names else (Evaluation(), *evaluations)
