"""Mean intersection over union of classes of pixels (Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010;
as it is reported of ADE20K: over the classes, of all pictures together)."""

import numpy as np
from jaxtyping import Float, Int

from data.ragged import IGNORED


def areas(
    right: Int[np.ndarray, "height width"], guessed: Int[np.ndarray, "height width"], classes: int
) -> Float[np.ndarray, "classes 3"]:
    """Of a picture, by class: the pixels that are of it and guessed so, those that are of it, and those guessed so. Pixels whose
    class is `IGNORED` do not count."""
    asked = right != IGNORED
    right, guessed = right[asked], guessed[asked]
    some = (right[right == guessed], right, guessed[(guessed >= 0) & (guessed < classes)])
    return np.stack([np.bincount(labels, minlength=classes) for labels in some], axis=1).astype(np.float64)


def intersections_over_unions(table: Float[np.ndarray, "classes 3"]) -> dict[str, float]:
    """`miou`, the mean over the classes that are there or guessed, and `pixel_accuracy`, both in percent."""
    both, there, guessed = table.T
    union = there + guessed - both
    kept = union > 0
    return {
        "miou": 100 * float((both[kept] / union[kept]).mean()) if kept.any() else 0.0,
        "pixel_accuracy": 100 * float(both.sum() / max(there.sum(), 1)),
    }
