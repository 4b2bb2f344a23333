"""Docs/learning-scenes.md, objects: what a small DETR learns of digit scenes.

    python -m experiments.campaigns.learning.objects --write        the run, the table and the picture

The run is `lacuna train` of the small recipe, of fewer steps with `--steps`; where it is done already it is taken.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from data.scenes.processor import SceneProcessor
from data.scenes.scene import Scene
from evaluation.metrics.coco import Found, There, average_precisions, matches, stacked
from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import slug, trained
from experiments.experiment import load
from experiments.show.scenes import draw_boxes
from inference.tasks.object_detection import detections
from models import hub

PAGE, PICTURE = DOCS / "learning-scenes.md", DOCS / "objects-digits.png"
RECIPE, NAME = "experiments/detr/pretrain.py", "DETR"
FIGURES = ("ap", "ap50", "ap75")
SHOWN, SIDE, SURE, BATCH = 6, 192, 0.25, 50


def held_out(folder: Path) -> list[Scene]:
    """The held-out scenes of the recipe, as they are in the source."""
    experiment = dataclasses.replace(load(RECIPE), folder=str(folder))
    assembly = assemble(experiment)
    examples = assembly.data.held_out(assembly.form(-1))
    return [examples.scene(number) for number in range(len(examples))]


def curve(folder: Path) -> list[tuple[int, float]]:
    """(step, AP50) of the evaluations of a run."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(one["step"], one["box_ap50"]) for one in lines if one["split"] == "boxes"]


def guessed(scenes: list[Scene]) -> list[Found]:
    """Without a look at the pixels: what is in the scene before, as surely as can be."""
    found = []
    for number, scene in enumerate(scenes):
        other = scenes[number - 1]
        scale = np.tile(np.divide(scene.size[::-1], other.size[::-1]), 2)
        found.append(Found(other.labels, np.ones(len(other.labels)), other.boxes * scale))
    return found


def scored(scenes: list[Scene], found: list[Found], classes: bool = True) -> list[str]:
    """The figures; without `classes` a box is right whatever digit it is said to be."""
    rows = []
    for scene, one in zip(scenes, found, strict=True):
        there = There.of(scene)
        if not classes:
            there, one = (dataclasses.replace(x, labels=np.zeros_like(x.labels)) for x in (there, one))
        rows.append(matches(there, one))
    figures = average_precisions(stacked(rows))
    return [f"{figures[name]:.3f}" for name in FIGURES]


def answered(folder: Path, scenes: list[Scene]) -> list[Found]:
    """What the model of a run finds, on canvases of one size, as in its evaluations."""
    model, variables = hub.load(folder / "model")
    processor, found = SceneProcessor.read(folder / "model", "detr"), []
    apply = jax.jit(lambda inputs: {name: model.apply(variables, **inputs)[name] for name in ("logits", "pred_boxes")})
    side = processor.longest
    for first in range(0, len(scenes), BATCH):
        some = scenes[first : first + BATCH]
        pixels = [processor.pixels(scene.picture) for scene in some]
        outputs = jax.device_get(apply(processor.batch([*pixels, *pixels[:1] * (BATCH - len(some))], (side, side))))
        for scene, shown, logits, boxes in zip(some, pixels, outputs["logits"], outputs["pred_boxes"], strict=False):
            part = shown.shape[0] / side, shown.shape[1] / side
            one = detections(logits, boxes, scene.size, part)
            found.append(Found(one.labels, one.scores, one.boxes))
    return found


def pictured(scenes: list[Scene], found: list[Found]) -> Image.Image:
    """What is there above, what was found below with a score of more than `SURE`."""
    columns = []
    for scene, one in zip(scenes, found, strict=True):
        sure = one.scores > SURE
        rows = (
            draw_boxes(*enlarged(scene.picture, scene.boxes), [str(label) for label in scene.labels]),
            draw_boxes(
                *enlarged(scene.picture, one.boxes[sure]),
                [str(label) for label in one.labels[sure]],
                one.scores[sure].tolist(),
            ),
        )
        columns.append(np.concatenate([np.asarray(row) for row in rows]))
    return Image.fromarray(np.concatenate(columns, axis=1))


def enlarged(picture: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture of `SIDE` pixels on a side, and the boxes in it."""
    scale = np.tile(SIDE / np.array(picture.shape[1::-1]), 2)
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)), boxes * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-scenes"), help="where the run lies")
    parser.add_argument("--steps", type=int, help="of the run; the recipe's where it is not given")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-scenes.md, and draw its picture")
    arguments = parser.parse_args()
    folder = arguments.runs / slug(NAME)
    result: dict[str, Any] = trained(RECIPE, folder, ["--steps", str(arguments.steps)] if arguments.steps else [])
    scenes = held_out(arguments.runs / "held-out")
    found = answered(folder, scenes)
    about = f"DETR, {result['parameters']:,} parameters, {result['steps']:,} steps of {result['items_per_step']}"
    blind = guessed(scenes)
    rows = [
        [about, *scored(scenes, found), *scored(scenes, found, classes=False)[1:2]],
        ["what is in the scene before", *scored(scenes, blind), *scored(scenes, blind, classes=False)[1:2]],
    ]
    machine = "{processor}, {cores} cores, JAX {jax}".format(**result["machine"])
    steps = ", ".join(f"{step:,}: {value:.3f}" for step, value in curve(folder))
    said = f"{result['seconds'] / 60:.1f} minutes on {machine}; {len(scenes)} held-out scenes. AP50 by step: {steps}.\n"
    table = f"{markdown(['', *FIGURES, 'ap50, any class'], rows)}\n{said}"
    print(table)
    if arguments.write:
        fill(PAGE, objects=table)
        pictured(scenes[:SHOWN], found[:SHOWN]).save(PICTURE)


if __name__ == "__main__":
    main()
