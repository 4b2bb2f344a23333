"""Answers of tasks as pictures: depth in colours, boxes and masks over the input."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.images.pictures import Source, decoded, opened
from experiments.experiment import ExperimentError
from experiments.show.scenes import colour_depth, draw_boxes, draw_masks


def drawn(given: Source, answer: Any) -> dict[str, Image.Image]:
    """Pictures of an answer about the picture `given`, by name.

    Raises:
        ExperimentError: the answer has nothing that can be drawn.
    """
    if isinstance(answer, Mapping) and "predicted_depth" in answer:
        colours = Image.fromarray(np.asarray(colour_depth(answer["predicted_depth"])))
        return {"depth": answer["depth"], "depth-colours": colours}
    found = answer if isinstance(answer, list) else None
    if found is None or not all(isinstance(one, Mapping) and {"box", "mask"} & one.keys() for one in found):
        raise ExperimentError("--draw: the answers of this task are no pictures: leave it out")
    with opened(given, "") as image:
        picture = np.asarray(decoded(image))
    labels = [one["label"] for one in found]
    if found and "mask" in found[0]:
        return {"segments": Image.fromarray(draw_masks(picture, [np.asarray(one["mask"]) for one in found], labels))}
    boxes = [[one["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")] for one in found]
    scores = [one["score"] for one in found]
    return {"boxes": Image.fromarray(draw_boxes(picture, np.reshape(boxes, (-1, 4)), labels, scores))}


def write_drawn(folder: Path, number: int, given: Source, answer: Any) -> None:
    """Writes PNG files of an answer, named after the picture's file, or numbered if it has none or the name is taken.

    Raises:
        ExperimentError: nothing can be drawn, or a file cannot be written.
    """
    stem = Path(given).stem if isinstance(given, str | Path) else f"picture-{number}"
    pictures = drawn(given, answer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any((folder / f"{stem}.{name}.png").exists() for name in pictures):
            stem = f"{stem}-{number}"
        for name, picture in pictures.items():
            picture.save(folder / f"{stem}.{name}.png")
    except OSError as error:
        raise ExperimentError(f"--draw {folder}: a picture cannot be written there: {error}") from None
