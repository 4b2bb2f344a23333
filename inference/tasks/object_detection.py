"""`object-detection`: what is in a picture, and where."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float, Int
from PIL import Image

from inference.explanations import illustrated, scaled
from inference.readers.scene import SceneReader, Shown
from inference.scores import check_count, softmax
from inference.task import Output, Task
from models.config import ModelError

WHOLE = (1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Detections:
    """Objects of a picture, the surest first.

    Attributes:
        scores: probabilities of their classes.
        labels: numbers of these.
        boxes: (left, top, right, bottom).
        queries: which of the model's queries each was.
    """

    scores: Float[np.ndarray, " objects"]
    labels: Int[np.ndarray, " objects"]
    boxes: Float[np.ndarray, "objects 4"]
    queries: Int[np.ndarray, " objects"]

    def surer_than(self, threshold: float) -> "Detections":
        """Those with a higher score."""
        kept = self.scores > threshold
        return Detections(**{field.name: vars(self)[field.name][kept] for field in dataclasses.fields(self)})


def detections(
    logits: Float[np.ndarray, "queries classes"],
    boxes: Float[np.ndarray, "queries 4"],
    size: tuple[int, int],
    shown: tuple[float, float] = WHOLE,
    *,
    clipped: bool = True,
) -> Detections:
    """One object for each query: its likeliest class but the last one, which is none, and its box in pixels.

    Args:
        boxes: (centre x, centre y, width, height), fractions of what the model saw.
        size: (height, width) of the picture in whose pixels boxes are wanted.
        shown: fractions of the height and the width of what the model saw that the picture took, the rest being padding.
        clipped: whether what of a box lies outside the picture is cut off.
    """
    probabilities = softmax(np.asarray(logits, np.float64))[:, :-1]
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    x, y, width, height = np.asarray(boxes, np.float64).T
    edges = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    scale = np.tile([size[1] / shown[1], size[0] / shown[0]], 2)
    edges = edges * scale
    if clipped:
        edges = np.clip(edges, 0, np.tile([size[1], size[0]], 2))
    order = np.argsort(-scores, kind="stable")
    return Detections(scores[order], labels[order], edges[order], order)


@dataclasses.dataclass(frozen=True)
class ObjectDetection(Task):
    """For each picture its objects with their scores, labels and boxes, the surest first.

    Boxes are in pixels of the picture as it came, cut off at its edges. (`transformers`' pipeline gives the same boxes in the
    order of the queries, rounded down and not cut off.)

    Attributes:
        threshold: objects with this score or a lower one are left out.
        top_k: most objects of a picture.
        explanation: file of a picture to be made of where the model looks for each object of the (only) picture.
    """

    name = "object-detection"
    reader = SceneReader
    fields = ()
    takes = ("pixel_values",)
    asks = (Output("logits", "queries classes"), Output("pred_boxes", "queries edges"))
    example = "lacuna predict object-detection PICTURE --model {model}"

    threshold: float = 0.5
    top_k: int = 100
    explanation: Annotated[str | Path | None, tyro.conf.arg(name="explain", metavar="OUT.png")] = None

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)
        if not 0 <= self.threshold <= 1:
            raise ModelError(f"threshold={self.threshold}: expected a probability")

    def answers(self, reader: SceneReader, given: Any, first: int = 0) -> list[Any]:
        if self.explanation is not None and first + len(given) > 1:
            raise ModelError(f"an explanation is of one picture, and {first + len(given)} came")
        return super().answers(reader, given, first)

    def answer(
        self, reader: SceneReader, given: Any, read: Shown, outputs: dict[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        labels = reader.model.config.labels
        found = detections(outputs["logits"], outputs["pred_boxes"], read.size).surer_than(self.threshold)
        if self.explanation is not None:
            looks_at(reader, read, found.queries[: self.top_k], self.explanation)
        rows = zip(found.scores, found.labels, found.boxes, strict=True)
        names = ("xmin", "ymin", "xmax", "ymax")
        return [
            {"score": float(score), "label": labels[label], "box": dict(zip(names, map(float, box), strict=True))}
            for score, label, box in rows
        ][: self.top_k]


def looks_at(reader: SceneReader, read: Shown, queries: Int[np.ndarray, " objects"], file: str | Path) -> None:
    """Save the picture beside where the last layer of the decoder looks for each object, the mean of its heads, row by row.

    Raises:
        ModelError: no object was found, the model tells no attention, or the file cannot be written.
    """
    if not len(queries):
        raise ModelError("no object was found, so there is nothing to explain: lower the threshold")
    if "output_attentions" not in reader.model.settings:
        raise ModelError(f"{type(reader.model).__name__} does not tell where it looks")
    inputs = {name: jnp.asarray(x) for name, x in reader.processor.batch([read.pixels]).items()}
    outputs = reader.model.apply(reader.variables, **inputs, output_attentions=True)
    rows, columns = outputs.feature_mask.shape[1:]
    looks = np.asarray(outputs.cross_attentions, np.float64)[-1, 0].mean(axis=0)[queries]
    maps = [scaled(look.reshape(rows, columns)) for look in looks]
    pixels = np.concatenate([read.pixels] * len(maps))
    counts = np.concatenate([_enlarged(one, read.pixels.shape[:2]) for one in maps])
    illustrated(pixels, counts, file)


def _enlarged(counts: Float[np.ndarray, "rows columns"], size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """A map at the size of a picture."""
    image = Image.fromarray(counts.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)
