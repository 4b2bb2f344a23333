"""A set of masks with classes: which query answers for which object, and how well.

Cheng, Misra, Schwing, Kirillov, Girdhar: "Masked-attention Mask Transformer for Universal Image Segmentation", 2021, arXiv
2112.01527, sections 3.3 and 4.1; points where a mask is least certain: Kirillov, Wu, He, Girshick, "PointRend", 2019, arXiv
1912.08193, section 3.1; the dice loss: Milletari, Navab, Ahmadi, "V-Net", 2016, arXiv 1606.04797.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from models.kernels.precision import widened
from models.kernels.sampling import sample_each, sample_together
from objectives.images.matching import match
from objectives.losses import IGNORED
from objectives.objective import Example, Losses, Objective, ObjectiveError

Masks = Float[Array, "queries height width"]
Scores = Float[Array, "queries classes"]


class Asked(NamedTuple):
    """What is asked of one picture.

    Attributes:
        labels: classes of its objects, `IGNORED` behind them.
        masks: theirs, at any resolution.
        key: to draw points with.
    """

    labels: Int[Array, " objects"]
    masks: UInt8[Array, "objects high wide"]
    key: Key[Array, ""]

    @property
    def valid(self) -> Bool[Array, "*batch objects"]:
        return self.labels != IGNORED


class Terms(NamedTuple):
    """Sums of the losses of one picture: negative log-likelihoods, binary cross-entropies (mean over points) and dice losses."""

    classes: Float[Array, ""]
    masks: Float[Array, ""]
    dice: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class MaskPrediction(Objective):
    """`class_labels` (objects,) and `mask_labels` (objects, height, width), a mask of 0 and 1 for each. Each object is matched to
    one query, so that the sum of these costs is the least:

        class_weight · -p(class) + mask_weight · binary cross-entropy + dice_weight · dice

    of masks at `num_points` points drawn evenly, the same for all masks of a picture. Then, over all outputs of the model,
    before its first layer and behind each, of which each is matched by itself and has points of its own:

        class_loss = class_weight · mean over queries of -w log p(class), no object being the class of those that have none;
            w is `no_object_weight` of these, 1 of the others, and what the mean divides by is the sum of w
        mask_loss = mask_weight · mean over objects of the binary cross-entropy at `num_points` points
        dice_loss = dice_weight · mean over objects of 1 - (2 Σ p t + 1) / (Σ p + Σ t + 1) at these

    The points are drawn for each object: `importance_sample_ratio` of them are those, among `oversample_ratio` times as many
    drawn evenly, where its query's mask is the least certain; the others are drawn evenly.

    Means are those of the global batch. Objects beyond the number of queries count among the objects, as in `transformers`.
    """

    reads: ClassVar[tuple[str, ...]] = ("class_labels", "mask_labels")
    writes: ClassVar[tuple[str, ...]] = ("points_key",)
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("class_queries_logits",), ("masks_queries_logits",))
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType({"no_object_weight": "no_object_weight"})
    needs: ClassVar[tuple[str, ...]] = ("classes",)

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12_544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75

    def __post_init__(self) -> None:
        self._check_fractions("importance_sample_ratio")
        if self.num_points < 1 or self.oversample_ratio < 1:
            raise ObjectiveError(
                f"num_points={self.num_points}, oversample_ratio={self.oversample_ratio}: expected at least 1 of both"
            )
        if min(self.class_weight, self.mask_weight, self.dice_weight, self.no_object_weight) < 0:
            raise ObjectiveError(f"{self!r}: expected weights of 0 or more")

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `points_key`, the data (uint32) of a key that points are drawn with."""
        return {**example, "points_key": jax.random.key_data(key)}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        scores, masks = self.predictions(outputs)
        labels, queries = batch["class_labels"], scores.shape[2]
        terms = self.terms(scores, masks, self.asked(batch))
        objects = (labels != IGNORED).sum(axis=1).astype(jnp.float32)
        answering = jnp.minimum(objects, queries)
        weight = answering + self.no_object_weight * (queries - answering)
        return {
            "class_loss": (self.class_weight * terms.classes.sum(), weight.sum()),
            "mask_loss": (self.mask_weight * terms.masks.sum(), objects.sum()),
            "dice_loss": (self.dice_weight * terms.dice.sum(), objects.sum()),
        }

    def predictions(
        self, outputs: Mapping[str, Array]
    ) -> tuple[Float[Array, "outputs batch queries classes"], Float[Array, "outputs batch queries height width"]]:
        """Those of all layers, the last one's last."""
        found = []
        for index, (name,) in enumerate(self.asks):
            last, before = self.output(outputs, index)[:, None], outputs.get(f"auxiliary_{name}")
            found.append(last if before is None else jnp.concatenate([before, last], axis=1))
        scores, masks = (jnp.moveaxis(x, 1, 0) for x in found)
        return scores, masks

    def asked(self, batch: Example) -> Asked:
        """What is asked of each picture of a batch."""
        keys = jax.random.wrap_key_data(batch["points_key"].astype(jnp.uint32))
        return Asked(batch["class_labels"], batch["mask_labels"], keys)

    def terms(self, scores: Array, masks: Array, asked: Asked) -> Terms:
        """Each (outputs, batch). One output after another is looked at, so that the points of one alone are held."""
        numbers = jnp.arange(len(scores))
        costs = jax.lax.map(
            lambda one: jax.vmap(self.cost, (0, 0, 0, None))(*one[:2], asked, one[2]), (scores, masks, numbers)
        )
        queries = jax.vmap(jax.vmap(match, (0, 0)), (0, None))(costs, asked.valid)

        @jax.checkpoint
        def of_output(one: tuple) -> Terms:
            return jax.vmap(self.terms_of, (0, 0, 0, 0, None))(*one[:3], asked, one[3])

        return jax.lax.map(of_output, (scores, masks, queries, numbers))

    def keys(self, key: Key[Array, ""], output: int | Int[Array, ""]) -> Key[Array, " 3"]:
        """What the points of the matching, the candidates and the even points of an output are drawn with."""
        return jax.random.split(jax.random.fold_in(key, output), 3)

    def cost(
        self, scores: Scores, masks: Masks, asked: Asked, output: int | Int[Array, ""]
    ) -> Float[Array, "queries objects"]:
        """What it costs to let a query answer for an object. Nothing is differentiated through it."""
        scores, masks = (widened(jax.lax.stop_gradient(x)) for x in (scores, masks))
        points = jax.random.uniform(self.keys(asked.key, output)[0], (self.num_points, 2))
        logits, truth = sample_together(masks, points), sample_together(asked.masks, points)
        probable = jax.nn.softmax(scores, axis=-1)[:, jnp.where(asked.valid, asked.labels, 0)]
        products = jnp.einsum("qp,op->qo", logits, truth)
        entropy = (jax.nn.softplus(logits).sum(axis=1)[:, None] - products) / self.num_points
        shares = jax.nn.sigmoid(logits)
        overlap = 2 * jnp.einsum("qp,op->qo", shares, truth) + 1
        dice = 1 - overlap / (shares.sum(axis=1)[:, None] + truth.sum(axis=1)[None] + 1)
        return -self.class_weight * probable + self.mask_weight * entropy + self.dice_weight * dice

    def terms_of(
        self, scores: Scores, masks: Masks, queries: Int[Array, " objects"], asked: Asked, output: int | Int[Array, ""]
    ) -> Terms:
        """The losses of one picture by one output, `queries` answering for its objects, -1 where none does."""
        answered = queries >= 0
        nothing = scores.shape[-1] - 1
        targets = (
            jnp.full(len(scores), nothing).at[jnp.where(answered, queries, len(scores))].set(asked.labels, mode="drop")
        )
        likelihoods = jnp.take_along_axis(jax.nn.log_softmax(widened(scores)), targets[:, None], axis=1)[:, 0]
        weights = jnp.where(targets == nothing, self.no_object_weight, 1.0)
        answers = widened(masks[jnp.where(answered, queries, 0)])
        points = self.points(jax.lax.stop_gradient(answers), self.keys(asked.key, output))
        logits, truth = sample_each(answers, points), sample_each(asked.masks, points)
        entropies = (jax.nn.softplus(logits) - logits * truth).mean(axis=1)
        shares = jax.nn.sigmoid(logits)
        dice = 1 - (2 * (shares * truth).sum(axis=1) + 1) / (shares.sum(axis=1) + truth.sum(axis=1) + 1)
        return Terms(
            -(weights * likelihoods).sum(),
            jnp.where(answered, entropies, 0.0).sum(),
            jnp.where(answered, dice, 0.0).sum(),
        )

    def points(
        self, masks: Float[Array, "objects height width"], keys: Key[Array, " 3"]
    ) -> Float[Array, "objects points 2"]:
        """Where each object's loss is taken."""
        objects = len(masks)
        uncertain = int(self.importance_sample_ratio * self.num_points)
        candidates = evenly(keys[1], objects, int(self.num_points * self.oversample_ratio))
        even = evenly(keys[2], objects, self.num_points - uncertain)
        _, nearest = jax.lax.top_k(-jnp.abs(sample_each(masks, candidates)), uncertain)
        return jnp.concatenate([jnp.take_along_axis(candidates, nearest[..., None], axis=1), even], axis=1)


def evenly(key: Key[Array, ""], objects: int, count: int) -> Float[Array, "objects count 2"]:
    """Points of each object, which do not change with what stands behind it."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(objects))
    return jax.vmap(lambda one: jax.random.uniform(one, (count, 2)))(keys)
