"""`zero-shot-classification`: any labels of texts, by whether a text entails that it is an example of them.

Yin, Hay, Roth, "Benchmarking Zero-shot Text Classification", 2019, arXiv 1909.00161.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from data.text.strides import cut
from inference.readers.text import TextReader
from inference.scores import softmax
from inference.task import Output, Task
from models.config import ModelConfig, ModelError


@dataclasses.dataclass(frozen=True)
class ZeroShotClassification(Task):
    """For each text {sequence, labels, scores}, the likeliest label first, of a model that says whether a text entails another.
    What it has no room for is cut off the text.

    Attributes:
        candidate_labels: what a text may be about.
        hypothesis_template: the second text of each pair, with `{}` for a label.
        multi_label: whether each label is right or wrong by itself, or one of them is right.
    """

    name = "zero-shot-classification"
    asks = (Output("logits", "labels"),)
    windowed = True

    candidate_labels: tuple[str, ...] = ()
    hypothesis_template: str = "This example is {}."
    multi_label: bool = False

    def __post_init__(self) -> None:
        labels = self.candidate_labels
        labels = [label.strip() for label in labels.split(",")] if isinstance(labels, str) else labels
        object.__setattr__(self, "candidate_labels", tuple(label for label in labels if label))
        if self.hypothesis_template.format("") == self.hypothesis_template:
            raise ModelError(f"hypothesis_template={self.hypothesis_template!r} has no {{}} for a label to stand in")

    def prepare(self, reader: TextReader) -> None:
        entailment(reader.model.config)

    def read(self, reader: TextReader, given: Sequence[str]) -> list[list[Encoding]]:
        labels = self.candidate_labels
        if not labels:
            raise ModelError("there is no label to choose: set candidate_labels (--candidate-labels A B)")
        for label in labels:
            if labels.count(label) > 1:
                raise ModelError(f"two candidate_labels are {label!r}: leave one out")
        if not all(given):
            raise ModelError("a text is empty: there is nothing to classify")
        pairs = [(text, self.hypothesis_template.format(label)) for text in given for label in labels]
        encodings = (
            [windows[0] for windows in cut(reader.tokenizer, pairs, reader.room, strategy="only_first")]
            if reader.room
            else reader.tokenizer.encode_batch(pairs)
        )
        reader.check_room(pairs, [encoding.ids for encoding in encodings])
        return [encodings[begin : begin + len(labels)] for begin in range(0, len(encodings), len(labels))]

    def answer(self, reader: TextReader, given: str, read: Any, outputs: list[dict[str, np.ndarray]]) -> dict[str, Any]:
        logits, right = np.stack([each["logits"] for each in outputs]), entailment(reader.model.config)
        if self.multi_label or len(logits) == 1:
            wrong = -1 if right == 0 else 0
            scores = softmax(logits[:, [wrong, right]])[:, 1]
        else:
            scores = softmax(logits[:, right])
        best = np.argsort(-scores, kind="stable")
        return {
            "sequence": given,
            "labels": [self.candidate_labels[label] for label in best],
            "scores": scores[best].tolist(),
        }


def entailment(config: ModelConfig) -> int:
    """The number of the label that says that a text entails another."""
    for number, label in enumerate(config.labels):
        if label.lower().startswith("entail"):
            return number
    raise ModelError(
        f"zero-shot-classification takes a model with a label `entailment`; there are {', '.join(config.labels)}"
    )
