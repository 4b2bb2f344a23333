"""What a model must beat to have learned anything: answers given without a look at the question."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from objectives.losses import IGNORED
from objectives.objective import Targets


@dataclasses.dataclass(frozen=True)
class Constant:
    """Always the same answer, with the probabilities that score best.

    Attributes:
        loss: of it, in nats: the entropy of the answers (smoothed and weighted as the loss is). No guesser that ignores the
            question, not even one that knows how often each answer is right here, has a lower one.
        accuracy: of the most frequent answer.
        standard_error: of an accuracy measured on as many questions, √(p (1 - p) / n).
        count: questions.
        metric: the model's accuracy to be held against; empty where it has none.
        factor: what `loss` is multiplied by, as the model's is.
    """

    loss: float
    accuracy: float
    standard_error: float
    count: int
    metric: str = ""
    factor: float = 1.0


def constant(answers: Targets) -> Constant:
    """The baseline for these answers.

    Raises:
        ValueError: nothing is asked.
    """
    labels = np.asarray(answers.labels).reshape(-1)
    labels = labels[labels != IGNORED]
    if not len(labels):
        raise ValueError("nothing is asked for: there is nothing to hold a model against")
    share = np.bincount(labels, minlength=answers.classes) / len(labels)
    target = (1 - answers.smoothing) * share + answers.smoothing / answers.classes
    entropy = -(target[target > 0] * np.log(target[target > 0])).sum()
    most = share.max()
    return Constant(
        loss=float(answers.factor * entropy),
        accuracy=float(most),
        standard_error=float(np.sqrt(most * (1 - most) / len(labels))),
        count=len(labels),
        metric=answers.accuracy,
        factor=answers.factor,
    )


def comparison(
    held_out: dict[str, float],
    baselines: dict[str, dict[str, Any]],
    units: Mapping[str, str] = MappingProxyType({}),
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> list[tuple[str, str, str, str]]:
    """Rows of a table: what was measured, the model's, the baseline's, and what that baseline is.

    Args:
        held_out: losses and metrics of a model.
        baselines: for some of its losses the fields of their `Constant`.
        units: of losses, where they have one; those with a baseline are in nats, as that is.
        intervals: of metrics, at 95 %.
    """
    rows = []
    losses = [name for name in held_out if name.endswith("_loss")]
    for name in losses + ["loss"] * (len(losses) > 1):
        base = baselines.get(name)
        unit = units.get(name.removeprefix("average_"), "" if base is None else "nats")
        title = name.replace("_", " ") + (f", {unit}" if unit else "")
        if base is None:
            rows.append((title, f"{held_out[name]:.3f}", "", "" if name != "loss" else "the sum"))
            continue
        said = f"entropy of the {base['count']:,} answers: the best that can be said without looking"
        if base.get("factor", 1.0) != 1.0:  # runs of before have no such field
            said += f"; both times {base['factor']:g}, the weight of this loss"
        rows.append((title, f"{held_out[name]:.3f}", f"{base['loss']:.3f}", said))
        if base["metric"] in held_out:
            accuracy = held_out[base["metric"]]
            said = "always the most frequent answer"
            if base["standard_error"] > 0:
                said += f"; {(accuracy - base['accuracy']) / base['standard_error']:+.1f} standard errors"
            rows.append((base["metric"].replace("_", " "), f"{accuracy:.1%}", f"{base['accuracy']:.1%}", said))
    for name, (low, high) in intervals.items():
        rows.append((name.replace("_", " "), f"{held_out[name]:.3f}", "", f"95 % interval {low:.3f} to {high:.3f}"))
    return rows
