"""Segments of a picture, of the classes and the masks that queries predict.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", 2021, arXiv 2112.01527, with section 3.4 of
"Per-Pixel Classification is Not All You Need for Semantic Segmentation", arXiv 2107.06278; in the order and with the thresholds
of `transformers`, which resizes all masks to a square first (`through`).
"""

import dataclasses
from collections.abc import Collection

import numpy as np
from jaxtyping import Float32, Int32

Size = tuple[int, int]
Scores = Float32[np.ndarray, "queries classes"]
Masks = Float32[np.ndarray, "queries height width"]

VOID = -1
"""The number of a pixel of no instance, and of every pixel where there is no segment at all."""
GRID = (384, 384)
"""(height, width) that `transformers` resizes masks to before all else."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A segment of a picture.

    Attributes:
        number: what its pixels have; several segments have the same where they are fused.
        label: number of its class.
        score: probability of the class; of an instance multiplied by the mean probability of its pixels.
        fused: whether segments of this class are one.
    """

    number: int
    label: int
    score: float
    fused: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Which segment each pixel belongs to, and what segments there are."""

    numbers: Int32[np.ndarray, "height width"]
    segments: tuple[Segment, ...]


def bilinear(before: int, after: int) -> Float32[np.ndarray, "after before"]:
    """The matrix that resizes a line of values, each new one between the two middles next to it (`interpolate` of torch with
    `align_corners=False`)."""
    places = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(before))).astype(np.float32)


def resized(maps: Float32[np.ndarray, "maps _height _width"], size: Size | None) -> np.ndarray:
    """Maps at another (height, width), as they are where that is `None`."""
    if size is None or maps.shape[1:] == tuple(size):
        return maps
    rows, columns = (bilinear(*lengths) for lengths in zip(maps.shape[1:], size, strict=True))
    return rows @ maps @ columns.T


def nearest(maps: Float32[np.ndarray, "maps _height _width"], size: Size) -> np.ndarray:
    """Maps at another (height, width), each pixel as the one above and left of it (`nearest` of torch's `interpolate`)."""
    rows, columns = (
        np.minimum(np.floor(np.arange(after, dtype=np.float32) * np.float32(before / after)).astype(int), before - 1)
        for before, after in zip(maps.shape[1:], size, strict=True)
    )
    return maps[:, rows[:, None], columns]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softmax(x: Scores) -> Scores:
    """Over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def semantic(
    scores: Scores, masks: Masks, size: Size, through: Size | None = GRID
) -> Int32[np.ndarray, "height width"]:
    """The class of each pixel: that with the greatest Σ over queries of p(class) · p(pixel), no object left out."""
    probable, pixels = softmax(scores)[:, :-1], sigmoid(resized(masks, through))
    return resized(np.einsum("qc,qhw->chw", probable, pixels, optimize=True), size).argmax(axis=0).astype(np.int32)


def instances(
    scores: Scores, masks: Masks, size: Size, *, threshold: float = 0.5, through: Size | None = GRID
) -> Segmentation:
    """The best pairs of a query and a class, as many as there are queries, whose score reaches the threshold, from 0 on.

    Pixels belong to an instance where its mask is more likely than not; where instances overlap, to the one with the lower score:
    they are laid down by falling score, as `transformers` does it, and the later one lies on top. (There the order of equal
    scores, and with fewer than 64 classes that of all, is whatever torch's unsorted `topk` makes of it.)
    """
    queries, classes = scores.shape[0], scores.shape[1] - 1
    probable = softmax(scores)[:, :-1].reshape(-1)
    best = np.argsort(-probable, kind="stable")[:queries]
    logits = resized(masks, through)[best // classes]
    inside = (logits > 0).astype(np.float32)
    means = (sigmoid(logits) * inside).sum(axis=(1, 2)) / (inside.sum(axis=(1, 2)) + 1e-6)
    numbers, segments = np.full(size, VOID, np.int32), []
    pixels = nearest(inside, size) > 0
    for score, label, mask in zip(probable[best] * means, best % classes, pixels, strict=True):
        if mask.any() and score >= threshold:
            numbers[mask] = len(segments)
            segments.append(Segment(len(segments), int(label), round(float(score), 6)))
    return Segmentation(numbers, tuple(segments))


def panoptic(
    scores: Scores,
    masks: Masks,
    size: Size,
    *,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap: float = 0.8,
    fused: Collection[int] = (),
    through: Size | None = GRID,
) -> Segmentation:
    """Each pixel belongs to the query with the greatest p(class) · p(pixel), among those whose likeliest class is an object and
    more likely than `threshold`; from 1 on.

    A query is a segment where it wins more than `overlap` of the pixels where that product is `mask_threshold` or more. (The
    paper compares the mask's probability alone. As in `transformers`, pixels whose mask is unlikely are the winner's, too.)
    Pixels of queries that are none have 0.

    Args:
        fused: numbers of classes whose segments are one, as those of stuff; each is listed by itself, with the number of the
            first. (`transformers` counts on from that, so that the next segment may get the number of another one.)
    """
    probable = softmax(scores)
    labels, likelihoods = probable.argmax(axis=1), probable.max(axis=1)
    kept = (labels != scores.shape[1] - 1) & (likelihoods > threshold)
    if not kept.any():
        return Segmentation(np.full(size, VOID, np.int32), ())
    pixels = resized(sigmoid(resized(masks, through))[kept], size) * likelihoods[kept, None, None]
    winners, numbers = pixels.argmax(axis=0), np.zeros(size, np.int32)
    segments, numbered, known = [], 0, {}
    for query, (label, score) in enumerate(zip(labels[kept].tolist(), likelihoods[kept].tolist(), strict=True)):
        won, area = winners == query, int((pixels[query] >= mask_threshold).sum())
        if not won.any() or not area or not np.float32(won.sum()) / np.float32(area) > overlap:
            continue
        number = known.get(label, numbered + 1)
        numbered = max(numbered, number)
        if label in fused:
            known[label] = number
        numbers[won] = number
        segments.append(Segment(number, label, round(score, 6), label in fused))
    return Segmentation(numbers, tuple(segments))
