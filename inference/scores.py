"""Scores of logits, for pipelines and for metrics alike."""

from typing import Any

import numpy as np

from models.config import ModelConfig, ModelError

Answer = dict[str, Any]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -500, 500)))


def probabilities(logits: np.ndarray, config: ModelConfig, function: str | None = None) -> np.ndarray:
    """A classifier's scores (…, labels) as its `problem_type` has them: a probability of each label beside the others, of each by
    itself, or the bare number of a regression. Where it says nothing, a single label is by itself, as in `transformers`.

    Args:
        function: `sigmoid`, `softmax` or `none` in place of what the config says.
    """
    if function is None and config.problem_type == "regression":
        function = "none"
    if function is None and (config.problem_type == "multi_label_classification" or len(config.labels) == 1):
        function = "sigmoid"
    return {"none": np.float64, "sigmoid": sigmoid}.get(function, softmax)(logits)


def guessed(logits: Any) -> Any:
    """The likeliest class of each place (…), of logits (…, classes); the first of several."""
    return logits.argmax(axis=-1)


def ranked(logits: np.ndarray, config: ModelConfig, count: int | None, function: str | None = None) -> list[Answer]:
    """The labels of an example with their scores, the likeliest first; `count` of them, or all."""
    scores = probabilities(logits, config, function)
    best = np.argsort(-scores, kind="stable")[:count]
    return [{"label": config.labels[label], "score": float(scores[label])} for label in best]


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless this is a number of things, of which there are at least so many."""
    if type(value) is not int or value < least:
        raise ModelError(f"{name}={value!r}: expected a whole number of at least {least}")


def check_labels(config: ModelConfig) -> None:
    """Raise where two labels have one name: an answer would not say which of them is meant."""
    for label in config.labels:
        if config.labels.count(label) > 1:
            raise ModelError(f"two labels are {label!r}: name them otherwise in id2label of the folder's config.json")
