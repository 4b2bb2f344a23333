"""Panoptic quality: Kirillov et al., "Panoptic Segmentation", 2018, arXiv 1801.00868, section 4, as panopticapi computes it."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

VOID = 0
"""The id of a pixel of no segment."""

MATCHED = 0.5
"""The intersection over the union above which two segments of a class are the same: of no segment there are two."""

Map = Int[np.ndarray, "height width"]
Segments = Mapping[int, int]
"""The label of each segment, by id."""


def counts(
    right: Map, there: Segments, guessed: Map, found: Segments, classes: int, crowd: Collection[int] = ()
) -> Float[np.ndarray, "classes 4"]:
    """Of a picture, by class: the sum of the intersections over the unions of what was found, how much was found, how much of
    what was found is wrong, and how much was not found.

    What is found on pixels of no segment, or in a crowd of its class, for more than half, does not count.

    Args:
        right, guessed: the ids of the segments that pixels belong to, `VOID` where to none.
        crowd: ids in `right` of segments that are several things.
    """
    table = np.zeros((classes, 4))
    pairs, sizes = np.unique(np.stack([right.reshape(-1), guessed.reshape(-1)]), axis=1, return_counts=True)
    shared = {(int(one), int(other)): int(size) for (one, other), size in zip(pairs.T, sizes, strict=True)}
    areas = [
        dict(zip(*map(np.ndarray.tolist, np.unique(one, return_counts=True)), strict=True)) for one in (right, guessed)
    ]
    seen, used = set(), set()
    for (one, other), size in shared.items():
        if one not in there or other not in found or one in crowd or there[one] != found[other]:
            continue
        union = areas[0][one] + areas[1][other] - size - shared.get((VOID, other), 0)
        if size / union > MATCHED:
            table[there[one], :2] += size / union, 1
            seen.add(one)
            used.add(other)
    crowds = {there[one]: one for one in there if one in crowd}
    for one, label in there.items():
        if one not in seen and one not in crowd:
            table[label, 3] += 1
    for other, label in found.items():
        if other in used or other not in areas[1]:
            continue
        outside = shared.get((VOID, other), 0) + shared.get((crowds.get(label, VOID - 1), other), 0)
        if outside / areas[1][other] <= MATCHED:
            table[label, 2] += 1
    return table


def qualities(table: Float[np.ndarray, "classes 4"], things: Sequence[int] | None = None) -> dict[str, float]:
    """`pq`, `sq` and `rq`, in percent, of the mean over the classes that are there or were found; with `things` also of these
    (`pq_things`) and of the others (`pq_stuff`). 0 where there is no class."""
    overlap, right, wrong, missed = table.T
    there = right + wrong + missed > 0
    recognised = right / np.maximum(right + wrong / 2 + missed / 2, 0.5)
    segmented = overlap / np.maximum(right, 1)

    def mean(values: np.ndarray, some: np.ndarray) -> float:
        return 100 * float(values[some].mean()) if some.any() else 0.0

    figures = {
        "pq": mean(segmented * recognised, there),
        "sq": mean(segmented, there),
        "rq": mean(recognised, there),
    }
    if things is not None:
        are = np.isin(np.arange(len(table)), list(things))
        figures["pq_things"] = mean(segmented * recognised, there & are)
        figures["pq_stuff"] = mean(segmented * recognised, there & ~are)
    return figures
