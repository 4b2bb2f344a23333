"""Metrics of written text: a translation, a summary, beside the one that is right."""

import dataclasses
from collections.abc import Sequence

from evaluation.metric import Metric, State


@dataclasses.dataclass(frozen=True)
class TextMetric(Metric):
    """Figures of a set of texts that a model has written, for an evaluation that has a task.

    `rows` gives the statistics of each text; those of all processes are gathered, in the order of the examples, and `compute`
    sees all. So a figure is the same however the texts are split, and an interval resamples texts. A subclass writes the two.
    """

    @property
    def signature(self) -> str:
        """What figures of other programs must have in common with these to be compared."""
        return ""

    def rows(self, written: Sequence[str], right: Sequence[str]) -> State:
        """The statistics of each text, arrays `[texts, ...]`."""
        raise NotImplementedError
