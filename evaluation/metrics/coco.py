"""Average precision of boxes and masks as COCO measures it, by pycocotools (Lin et al., "Microsoft COCO: Common Objects in
Context", 2014, arXiv 1405.0312).

pycocotools matches what was found in a picture with what is there; that says, for each thing found, at which thresholds it is
right. Precision over all pictures is computed from these rows, as pycocotools does, so that pictures can be resampled.
"""

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from evaluation.metric import Metric, State
from objectives.losses import IGNORED

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of the intersection over the union."""
RECALLS = np.linspace(0, 1, 101)
AREAS = ("all", "small", "medium", "large")
MOST = 100
"""Things found in a picture that count, those with the highest scores of each class."""
NOTHING = -1.0
"""A figure where there is nothing to be found."""

Rows = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What was found in a picture.

    Attributes:
        boxes: (left, top, right, bottom) in pixels.
        masks: where they are what is compared.
    """

    labels: Int[np.ndarray, " found"]
    scores: Float[np.ndarray, " found"]
    boxes: Float[np.ndarray, "found 4"]
    masks: Bool[np.ndarray, "found height width"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class There:
    """What is there, as `Found`; crowds are things whose finds do not count.

    Attributes:
        areas: by which things are small, medium or large.
    """

    labels: Int[np.ndarray, " objects"]
    boxes: Float[np.ndarray, "objects 4"]
    areas: Float[np.ndarray, " objects"]
    crowd: Bool[np.ndarray, " objects"]
    masks: Bool[np.ndarray, "objects height width"] | None = None

    @classmethod
    def of(cls, scene: Any) -> "There":
        """What is in a scene (`data.scenes.scene.Scene`)."""
        areas = scene.areas
        if areas is None and scene.masks is not None:
            areas = scene.masks.sum(axis=(1, 2)).astype(np.float64)
        elif areas is None:
            areas = np.prod(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1)
        crowd = np.zeros(len(scene.labels), bool) if scene.crowd is None else scene.crowd
        return cls(scene.labels, scene.boxes, areas, crowd, scene.masks)


def matches(there: There, found: Found) -> Rows:
    """A row of a picture: of each thing found its `label` and `score`, and by area and threshold whether it `matched` and whether
    it is `ignored`; of each thing there its `there_label`, and by area whether it is `there_ignored`. All padded with `IGNORED`
    (scores with NaN) where things are of different pictures."""
    evaluated = _evaluated(there, found)
    labels, scores, matched, ignored = [], [], [], []
    there_labels, there_ignored = [], []
    for category in sorted({one["category_id"] for one in evaluated}):
        parts = [one for one in evaluated if one["category_id"] == category]
        scores += parts[0]["dtScores"]
        labels += [category - 1] * len(parts[0]["dtScores"])
        matched.append(np.stack([one["dtMatches"] > 0 for one in parts]))
        ignored.append(np.stack([one["dtIgnore"] for one in parts]))
        # The things there are in another order for each area: only how many count is told.
        there_labels += [category - 1] * len(parts[0]["gtIds"])
        there_ignored.append(np.stack([np.asarray(one["gtIgnore"]) for one in parts]))
    flags = np.zeros((len(AREAS), len(THRESHOLDS), 0))
    join = lambda some, blank: np.concatenate([blank, *some], axis=-1).astype(np.int8)  # noqa: E731
    return {
        "label": np.array(labels, np.int32),
        "score": np.array(scores, np.float64),
        "matched": np.moveaxis(join(matched, flags), -1, 0),
        "ignored": np.moveaxis(join(ignored, flags), -1, 0),
        "there_label": np.array(there_labels, np.int32),
        "there_ignored": np.moveaxis(join(there_ignored, flags[:, 0]), -1, 0),
    }


def _evaluated(there: There, found: Found) -> list[Mapping[str, Any]]:
    """What pycocotools says of one picture, by category (a label and 1) and area."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    masks = there.masks is not None and found.masks is not None
    right, guessed = COCO(), COCO()
    categories = [{"id": int(label) + 1} for label in np.union1d(there.labels, found.labels)]
    height, width = there.masks.shape[1:] if masks else (0, 0)
    image = {"images": [{"id": 1, "height": height, "width": width}], "categories": categories}
    right.dataset = {**image, "annotations": _annotations(there, masks)}
    guessed.dataset = {**image, "annotations": _annotations(found, masks)}
    with contextlib.redirect_stdout(io.StringIO()):
        right.createIndex()
        guessed.createIndex()
        evaluation = COCOeval(right, guessed, "segm" if masks else "bbox")
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
    return [one for one in evaluation.evalImgs if one is not None]


def _annotations(things: There | Found, masks: bool) -> list[dict[str, Any]]:
    """Things as COCO has them; their ids begin with 1, for pycocotools takes a match with 0 for none."""
    annotations = []
    areas = things.areas if isinstance(things, There) else np.prod(things.boxes[:, 2:] - things.boxes[:, :2], axis=1)
    if masks and isinstance(things, Found):
        areas = things.masks.sum(axis=(1, 2))
    for number, (label, box) in enumerate(zip(things.labels.tolist(), things.boxes.tolist(), strict=True)):
        left, top, right, bottom = box
        one = {"id": number + 1, "image_id": 1, "category_id": label + 1, "area": float(areas[number])}
        one["iscrowd"] = int(things.crowd[number]) if isinstance(things, There) else 0
        one["bbox"] = [left, top, right - left, bottom - top]
        if isinstance(things, Found):
            one["score"] = float(things.scores[number])
        if masks:
            one["segmentation"] = _runs(things.masks[number])
        annotations.append(one)
    return annotations


def _runs(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    from pycocotools import mask as library

    return library.encode(np.asfortranarray(mask.astype(np.uint8)))


def stacked(rows: Sequence[Rows]) -> Rows:
    """Rows of several pictures, padded to the most things."""
    found, there = (max((len(row[name]) for row in rows), default=0) for name in ("label", "there_label"))
    most = {name: there if name.startswith("there") else found for name in rows[0]}

    def padded(name: str, array: np.ndarray) -> np.ndarray:
        fill = np.nan if array.dtype.kind == "f" else IGNORED
        pad = [(0, most[name] - len(array)), *((0, 0) for _ in array.shape[1:])]
        return np.pad(array, pad, constant_values=fill)

    return {name: np.stack([padded(name, row[name]) for row in rows]) for name in rows[0]}


def precisions(rows: State) -> Float[np.ndarray, "areas thresholds classes"]:
    """The average precision of each class that is there, NaN of an area without any."""
    labels, scores = rows["label"].reshape(-1), rows["score"].reshape(-1)
    there, there_ignored = rows["there_label"].reshape(-1), rows["there_ignored"].reshape(-1, len(AREAS))
    shape = (-1, len(AREAS), len(THRESHOLDS))
    matched, ignored = (rows[name].reshape(shape) for name in ("matched", "ignored"))
    order = np.argsort(-scores, kind="stable")  # NaN last
    classes = np.unique(there[there != IGNORED])
    found = np.full((len(AREAS), len(THRESHOLDS), len(classes)), np.nan)
    for column, label in enumerate(classes.tolist()):
        mine = order[labels[order] == label]
        counts = (there_ignored[there == label] == 0).sum(axis=0)
        for area, count in enumerate(counts.tolist()):
            if not count:
                continue
            counted = ignored[mine, area] == 0
            right = np.cumsum(counted & (matched[mine, area] == 1), axis=0).astype(np.float64)
            wrong = np.cumsum(counted & (matched[mine, area] == 0), axis=0)
            precision = right / (right + wrong + np.spacing(1))
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            for threshold in range(len(THRESHOLDS)):
                places = np.searchsorted(right[:, threshold] / count, RECALLS, side="left")
                values = np.append(precision[:, threshold], 0.0)[np.minimum(places, len(mine))]
                found[area, threshold, column] = values.mean()
    return found


def average_precisions(rows: State) -> dict[str, float]:
    """`ap` over thresholds from 0.5 to 0.95, `ap50` and `ap75` at one, and `ap_small`, `ap_medium`, `ap_large`, of the mean over
    the classes; -1 where there is nothing of that area."""
    values = precisions(rows)

    def mean(part: np.ndarray) -> float:
        return float(np.nanmean(part)) if np.isfinite(part).any() else NOTHING

    figures = {"ap": mean(values[0]), "ap50": mean(values[0, 0]), "ap75": mean(values[0, 5])}
    return figures | {f"ap_{name}": mean(values[area]) for area, name in enumerate(AREAS) if area}


FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@dataclasses.dataclass(frozen=True)
class BoxPrecision(Metric):
    """Average precision of boxes: each query is a thing of its likeliest class, however unlikely, and the box it predicts."""

    asks: ClassVar[tuple[str, ...]] = ("logits", "pred_boxes")
    reads: ClassVar[tuple[str, ...]] = ("pixel_mask", "index")
    figures: ClassVar[tuple[str, ...]] = tuple(f"box_{name}" for name in FIGURES)
    libraries: ClassVar[tuple[str, ...]] = ("pycocotools",)

    def update(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> State:
        mask = batch["pixel_mask"] > 0
        parts = mask.any(axis=1).mean(axis=1), mask.any(axis=2).mean(axis=1)
        kept = {"logits": outputs["logits"], "boxes": outputs["pred_boxes"], "index": batch["index"]}
        return {**kept, "width": parts[0], "height": parts[1]}

    def condensed(self, state: State, examples: Any) -> State:
        rows = []
        for number, item in enumerate(state["index"].tolist()):
            scene = examples.scene(item)
            share = np.array([state["width"][number], state["height"][number]] * 2)
            boxes = corners(state["boxes"][number] / share) * np.tile(scene.size[::-1], 2)
            scores = softmax(state["logits"][number])[:, :-1]
            found = Found(scores.argmax(axis=1), scores.max(axis=1), boxes)
            rows.append(matches(There.of(scene), found))
        return stacked(rows)

    def compute(self, state: State) -> dict[str, float]:
        return {f"box_{name}": value for name, value in average_precisions(state).items()}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def corners(boxes: Float[np.ndarray, "found 4"]) -> Float[np.ndarray, "found 4"]:
    """(centre x, centre y, width, height) as (left, top, right, bottom)."""
    x, y, width, height = np.asarray(boxes, np.float64).T
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
