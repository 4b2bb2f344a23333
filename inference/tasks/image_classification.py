"""`image-classification`: labels of pictures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from inference.explanations import explain, illustrated
from inference.readers.picture import PictureReader
from inference.scores import Answer, check_count, ranked
from inference.task import Output, Task
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class ImageClassification(Task):
    """For each picture its likeliest labels with their scores, the likeliest first.

    Attributes:
        top_k: answers for each picture.
        explanation: file of a picture to be made of where in the (only) picture the likeliest label was seen.
    """

    name = "image-classification"
    reader = PictureReader
    fields = ()
    takes = ("pixel_values",)
    asks = (Output("logits", "labels"),)
    example = "lacuna predict image-classification PICTURE --model {model}"

    top_k: int = 5
    explanation: Annotated[str | Path | None, tyro.conf.arg(name="explain", metavar="OUT.png")] = None

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)

    def answers(self, reader: PictureReader, given: Sequence[Any], first: int = 0) -> list[Any]:
        if self.explanation is not None and first + len(given) > 1:
            raise ModelError(f"an explanation is of one picture, and {first + len(given)} came")
        return super().answers(reader, given, first)

    def answer(self, reader: PictureReader, given: Any, read: Any, outputs: dict[str, np.ndarray]) -> list[Answer]:
        config = reader.model.config
        answers = ranked(outputs["logits"], config, self.top_k)
        if self.explanation is not None:
            label = list(config.labels).index(answers[0]["label"])
            counts = explain(reader.model, reader.variables, reader.processor.values(read), label)
            illustrated(read, counts, self.explanation)
        return answers
