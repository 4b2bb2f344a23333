"""Detection as the prediction of a set: each object is answered for by one query, found by matching, and the others say so.

Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872: the matching is equation 1, the losses
are equation 2 and section A.2; losses of all layers of the decoder, each with a matching of its own, are section 3.2.
Generalised intersection over union: Rezatofighi et al., 2019, arXiv 1902.09630, algorithm 1. Of masks the focal loss of Lin et
al., 2017, arXiv 1708.02002, equation 5, and the Dice loss of Milletari et al., 2016, arXiv 1606.04797.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from jaxtyping import Array, Bool, Float, Int

from models.kernels.cross_entropy import negative_log_likelihood
from models.kernels.precision import widened
from objectives.images.matching import match
from objectives.losses import IGNORED, NATS
from objectives.objective import Example, Losses, Objective, ObjectiveError, Pair

Boxes = Float[Array, "*#shape 4"]
AUXILIARY = "auxiliary_"
"""What the names of outputs and losses begin with that are of layers before the last."""
MATCHED = "matched_queries"
"""What the matching is called among the outputs: of each object of a layer the query that answers for it, or -1."""

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2


def corners(boxes: Boxes) -> Boxes:
    """(left, top, right, bottom) of (centre x, centre y, width, height)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def generalized_iou(one: Boxes, other: Boxes) -> Float[Array, "*#shape"]:
    """Intersection over union, less the share of the smallest box around both that neither fills, of boxes given by their
    corners; from -1 to 1. Where a share is of nothing it is 0, so that two boxes without area at one place have 0."""

    def area(corner: Array, opposite: Array) -> Array:
        return jnp.maximum(opposite - corner, 0).prod(axis=-1)

    def share(part: Array, whole: Array) -> Array:
        some = whole > 0
        return jnp.where(some, part / jnp.where(some, whole, 1.0), 0.0)

    shared = area(jnp.maximum(one[..., :2], other[..., :2]), jnp.minimum(one[..., 2:], other[..., 2:]))
    around = area(jnp.minimum(one[..., :2], other[..., :2]), jnp.maximum(one[..., 2:], other[..., 2:]))
    union = area(one[..., :2], one[..., 2:]) + area(other[..., :2], other[..., 2:]) - shared
    return share(shared, union) - share(around - union, around)


def resized_masks(
    logits: Float[Array, "batch objects rows columns"], height: int, width: int
) -> Float[Array, "batch objects height width"]:
    """Logits of masks between their places: bilinear, the places being the middles of equal parts of the picture."""
    shape = (*logits.shape[:2], height, width)
    return jax.image.resize(widened(logits), shape, method="linear", antialias=False)


@dataclasses.dataclass(frozen=True)
class SetPrediction(Objective):
    """`class_labels` and `boxes` of a picture's objects, from queries of which each says a class, or that there is none.

    A query is matched with at most one object, so that Σ (−`class_cost` · probability of the class + `box_cost` · L1 distance of
    the boxes − `giou_cost` · generalised intersection over union) is the least. Losses are of matched pairs, divided by the
    number of objects in the global batch; the cross-entropy of the classes is of all queries, and a weighted mean. They are
    reported as they are weighted. `auxiliary_` losses are the sums of those of the layers before the last.

    Attributes:
        no_object_weight: of the cross-entropy of queries that no object is matched with.
        box_weight, giou_weight: of the losses of boxes.
        auxiliary: ask each layer of the decoder, too.
        masks: ask for `mask_labels`, too: of the last layer alone.
        mask_weight, dice_weight: of their losses: the focal loss, a mean over the pixels of the canvas, and Dice's.
    """

    units: ClassVar[Mapping[str, str]] = MappingProxyType({"class_loss": NATS, f"{AUXILIARY}class_loss": NATS})
    needs: ClassVar[tuple[str, ...]] = ("classes",)

    class_cost: float = 1.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    no_object_weight: float = 0.1
    box_weight: float = 5.0
    giou_weight: float = 2.0
    auxiliary: bool = True
    masks: bool = False
    mask_weight: float = 1.0
    dice_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not value >= 0:
                raise ObjectiveError(f"{name}={value}: expected 0 or more")
        if not self.no_object_weight > 0:
            raise ObjectiveError("no_object_weight=0: queries that no object is matched with would learn nothing")
        if not self.class_cost + self.box_cost + self.giou_cost > 0:
            raise ObjectiveError("class_cost, box_cost and giou_cost are all 0: expected one of more")

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("class_labels", "boxes", *(["mask_labels"] if self.masks else []))

    @property
    def asks(self) -> tuple[tuple[str, ...], ...]:  # type: ignore[override]
        return (("logits",), ("pred_boxes",), *([("pred_masks",)] if self.masks else []))

    def judged(self, outputs: Mapping[str, Array], batch: Example) -> Mapping[str, Array]:
        """Adds `matched_queries` (batch, layers, objects), of each layer that is asked, the last one's last; see `matched`."""
        logits, found, _ = self._by_layer(outputs)
        queries = self.matched(logits, found, batch["class_labels"], widened(batch["boxes"]))
        return {**outputs, MATCHED: queries}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        labels, boxes = batch["class_labels"], widened(batch["boxes"])
        logits, found, layers = self._by_layer(outputs)
        queries = self._queries(outputs, batch)
        losses = self._of_layer(logits[:, -1], found[:, -1], queries[:, -1], labels, boxes)
        for number in range(layers - 1):
            one = self._of_layer(logits[:, number], found[:, number], queries[:, number], labels, boxes)
            for name, (amount, weight) in one.items():
                before = losses.get(f"{AUXILIARY}{name}", (0.0, weight))[0]
                losses[f"{AUXILIARY}{name}"] = (before + amount, weight)
        if self.masks:
            losses |= self._of_masks(self.output(outputs, 2), queries[:, -1], batch)
        return losses

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """How often the class is right of matched queries, and by how many objects the number that is said is wrong."""
        logits, labels = self.output(outputs), batch["class_labels"]
        queries = self._queries(outputs, batch)[:, -1]
        asked = queries >= 0
        best = jnp.take_along_axis(logits.argmax(axis=-1), jnp.maximum(queries, 0), axis=1)
        said = (logits.argmax(axis=-1) != logits.shape[-1] - 1).sum(axis=1)
        wrong = jnp.abs(said - (labels != IGNORED).sum(axis=1))
        return {
            "class_accuracy": _pair(asked & (best == labels), asked),
            "cardinality_error": _pair(wrong, jnp.ones_like(wrong)),
        }

    def _queries(self, outputs: Mapping[str, Array], batch: Example) -> Int[Array, "batch layers objects"]:
        """What `judged` has added, or would add."""
        return outputs[MATCHED] if MATCHED in outputs else self.judged(outputs, batch)[MATCHED]

    def matched(
        self,
        logits: Float[Array, "batch layers queries classes"],
        found: Float[Array, "batch layers queries 4"],
        labels: Int[Array, "batch objects"],
        boxes: Float[Array, "batch objects 4"],
    ) -> Int[Array, "batch layers objects"]:
        """The query of each object, layer by layer; -1 of those that have none."""
        valid = labels != IGNORED
        cost = self.costs(logits, found, jnp.where(valid, labels, 0), boxes)
        valid = repeat(valid, "batch objects -> (batch layers) objects", layers=cost.shape[1])
        queries = jax.vmap(match)(rearrange(cost, "batch layers ... -> (batch layers) ..."), valid)
        return rearrange(queries, "(batch layers) objects -> batch layers objects", batch=len(labels))

    def costs(
        self,
        logits: Float[Array, "batch layers queries classes"],
        found: Float[Array, "batch layers queries 4"],
        labels: Int[Array, "batch objects"],
        boxes: Float[Array, "batch objects 4"],
    ) -> Float[Array, "batch layers queries objects"]:
        """What it costs to match a query with an object."""
        logits, found = jax.lax.stop_gradient((widened(logits), widened(found)))
        probabilities = jax.nn.softmax(logits, axis=-1)
        said = jnp.take_along_axis(probabilities, labels[:, None, None], axis=-1)
        found, boxes = found[..., :, None, :], boxes[:, None, None]
        distance = jnp.abs(found - boxes).sum(axis=-1)
        overlap = generalized_iou(corners(found), corners(boxes))
        return self.box_cost * distance - self.class_cost * said - self.giou_cost * overlap

    def _by_layer(
        self, outputs: Mapping[str, Array]
    ) -> tuple[Float[Array, "batch layers queries classes"], Float[Array, "batch layers queries 4"], int]:
        """Logits and boxes of all layers that are asked, the last one's behind the others, and how many there are."""
        logits, found = self.output(outputs)[:, None], widened(self.output(outputs, 1))[:, None]
        if self.auxiliary and f"{AUXILIARY}logits" in outputs:
            logits = jnp.concatenate([outputs[f"{AUXILIARY}logits"], logits], axis=1)
            found = jnp.concatenate([widened(outputs[f"{AUXILIARY}boxes"]), found], axis=1)
        return logits, found, logits.shape[1]

    def _of_layer(
        self,
        logits: Float[Array, "batch queries classes"],
        found: Float[Array, "batch queries 4"],
        queries: Int[Array, "batch objects"],
        labels: Int[Array, "batch objects"],
        boxes: Float[Array, "batch objects 4"],
    ) -> Losses:
        """The losses of classes and boxes. Their weights depend on how many objects there are, not on which were matched."""
        batch, count = logits.shape[:2]
        asked = queries >= 0
        row = jnp.arange(batch)[:, None]
        place = jnp.where(asked, queries, count)
        target = jnp.full((batch, count), logits.shape[-1] - 1).at[row, place].set(labels, mode="drop")
        weights = jnp.full((batch, count), self.no_object_weight).at[row, place].set(1.0, mode="drop")
        objects = (labels != IGNORED).sum(axis=1)
        answered = jnp.minimum(objects, count)
        classes = (weights * negative_log_likelihood(logits, target, 0.0)).sum()
        pairs = jnp.take_along_axis(found, jnp.maximum(queries, 0)[..., None], axis=1)
        distance = jnp.abs(pairs - boxes).sum(axis=-1)
        overlap = generalized_iou(corners(pairs), corners(boxes))
        total = objects.sum().astype(jnp.float32)
        return {
            "class_loss": (classes, (answered + self.no_object_weight * (count - answered)).sum()),
            "box_loss": (self.box_weight * jnp.where(asked, distance, 0.0).sum(), total),
            "giou_loss": (self.giou_weight * jnp.where(asked, 1 - overlap, 0.0).sum(), total),
        }

    def _of_masks(
        self, masks: Float[Array, "batch queries rows columns"], queries: Int[Array, "batch objects"], batch: Example
    ) -> Losses:
        """The losses of the masks of matched queries, brought to the resolution of the labels."""
        labels = batch["mask_labels"].astype(jnp.float32)
        chosen = jnp.take_along_axis(masks, jnp.maximum(queries, 0)[..., None, None], axis=1)
        logits = resized_masks(chosen, *labels.shape[2:])
        asked = queries >= 0
        total = (batch["class_labels"] != IGNORED).sum().astype(jnp.float32)
        focal, dice = focal_loss(logits, labels), dice_loss(logits, labels)
        return {
            "mask_loss": (self.mask_weight * jnp.where(asked, focal, 0.0).sum(), total),
            "dice_loss": (self.dice_weight * jnp.where(asked, dice, 0.0).sum(), total),
        }


def focal_loss(
    logits: Float[Array, "batch objects height width"], labels: Float[Array, "batch objects height width"]
) -> Float[Array, "batch objects"]:
    """-α (1 - p)^γ log p of what is so, a mean over pixels; α is for pixels of the object, 1 - α for the others."""
    signed = jnp.where(labels > 0, logits, -logits)
    alpha = jnp.where(labels > 0, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    losses = alpha * jax.nn.sigmoid(-signed) ** FOCAL_GAMMA * jax.nn.softplus(-signed)
    return reduce(losses, "batch objects height width -> batch objects", "mean")


def dice_loss(
    logits: Float[Array, "batch objects height width"], labels: Float[Array, "batch objects height width"]
) -> Float[Array, "batch objects"]:
    """1 - (2 Σ p · label + 1) / (Σ p + Σ label + 1)."""
    probabilities = jax.nn.sigmoid(logits)
    both, all_, there = (x.sum(axis=(-2, -1)) for x in (probabilities * labels, probabilities, labels))
    return 1 - (2 * both + 1) / (all_ + there + 1)


def _pair(amount: Bool[Array, "..."] | Int[Array, "..."], weight: Bool[Array, "..."] | Int[Array, "..."]) -> Pair:
    return amount.sum().astype(jnp.float32), weight.sum().astype(jnp.float32)
