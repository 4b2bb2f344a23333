"""Docs/learning-scenes.md, segments: what a small Mask2Former learns of digit scenes.

    python -m experiments.campaigns.learning.segments --write        the run, the table and the pictures

The run is `lacuna train` of the small recipe; where it is done already it is taken.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.scenes.scene import Scene
from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import slug, trained
from experiments.experiment import load
from experiments.show.scenes import draw_masks
from inference.pipeline import pipeline

PAGE, PICTURE = DOCS / "learning-scenes.md", DOCS / "segments-digits.png"
RECIPE, NAME = "experiments/mask2former/pretrain.py", "Mask2Former"
SHOWN, SIZE = 6, (128, 128)
FIGURES = ("pq", "sq", "rq")


def held_out(folder: Path, count: int) -> list[Scene]:
    """The first held-out scenes of the recipe, as the source has them."""
    assembly = assemble(dataclasses.replace(load(RECIPE), folder=str(folder)))
    examples = assembly.data.held_out(assembly.form(-1))
    return [examples.scene(number, masks=True) for number in range(count)]


def framed(picture: np.ndarray) -> np.ndarray:
    """A picture in the corner of a black one of `SIZE`."""
    return np.pad(picture, [(0, most - edge) for most, edge in zip(SIZE, picture.shape, strict=False)] + [(0, 0)])


def pictured(folder: Path, scenes: list[Scene], classes: tuple[str, ...]) -> Image.Image:
    """Columns of a picture, what there is to be found, and what the model finds."""
    ask = pipeline("image-segmentation", folder / "model")
    columns = []
    for scene in scenes:
        answer = [one for one in ask(scene.picture, threshold=0.8) if one["label"] != classes[-1]]
        things = [number for number, label in enumerate(scene.labels) if label < len(classes) - 1]
        names = [classes[scene.labels[number]] for number in things]
        truth = draw_masks(scene.picture, np.reshape(scene.masks[things], (-1, *scene.size)), names)
        masks = np.reshape([np.asarray(one["mask"]) > 0 for one in answer], (-1, *scene.size))
        found = draw_masks(scene.picture, masks, [one["label"] for one in answer])
        columns.append(np.concatenate([framed(np.asarray(x)) for x in (scene.picture, truth, found)]))
    return Image.fromarray(np.concatenate(columns, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-scenes"), help="where the run lies")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-scenes.md, and draw its picture")
    arguments = parser.parse_args()
    folder = arguments.runs / slug(NAME)
    result: dict[str, Any] = trained(RECIPE, folder, [])
    figures = result["evaluations"]["segments"]
    intervals = figures["intervals"]
    row = [f"{figures[name]:.1f} ({intervals[name][0]:.1f}–{intervals[name][1]:.1f})" for name in FIGURES]
    about = f"Mask2Former, {result['parameters']:,} parameters, {result['steps']:,} steps"
    machine = "{processor}, {cores} cores, JAX {jax}".format(**result["machine"])
    said = f"{result['seconds'] / 60:.1f} minutes on {machine}, shared with other work; 95 % intervals over scenes.\n"
    table = f"{markdown(['', *(name.upper() for name in FIGURES)], [[about, *row]])}\n{said}"
    print(table)
    if arguments.write:
        fill(PAGE, segments=table)
        scenes = held_out(arguments.runs / "opened", SHOWN)
        pictured(folder, scenes, load(RECIPE).model.labels).save(PICTURE)


if __name__ == "__main__":
    main()
