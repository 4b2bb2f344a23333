"""Docs/learning-scenes.md, depth: what a small GLPN learns of it, beside guesses that look at no pixel.

    python -m experiments.campaigns.learning_depth --write        the run, the table and the pictures

The run is `lacuna train` of the small recipe; where it is done already it is taken.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from PIL import Image

from evaluation.bootstrap import interval
from evaluation.metrics.depth import DepthErrors
from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import slug, trained
from experiments.experiment import load
from experiments.show.scenes import colour_depth
from models import hub
from objectives.images.depth import valid

PAGE, PICTURE = DOCS / "learning-scenes.md", DOCS / "depth-rendered.png"
RECIPE, NAME = "experiments/glpn/pretrain.py", "GLPN"
SHOWN, BATCH = 6, 20
FIGURES = ("abs_rel", "rmse", "log10", "delta1", "delta2", "delta3")

Depths = Float32[np.ndarray, "scenes height width"]


def opened(folder: Path) -> tuple[dict[str, np.ndarray], Depths, DepthErrors]:
    """The held-out scenes of the recipe, as the model sees them, the depth of those to train on, and the metric."""
    experiment = dataclasses.replace(load(RECIPE), folder=str(folder))
    assembly = assemble(experiment)
    prepared, form = assembly.data, assembly.form(-1)
    training = dataclasses.replace(prepared, held_out_items=prepared.training_items).held_out(form)
    held_out = prepared.held_out(form)
    (metric,) = experiment.evaluations[0].metrics
    every = np.arange(len(held_out))
    return held_out.batch(every), training.batch(np.arange(len(training)))["labels"], metric


def predicted(folder: Path, pixels: np.ndarray) -> Depths:
    """What the model of a run says of pictures, uint8."""
    model, variables = hub.load(folder / "model")
    apply = jax.jit(lambda values: model.apply(variables, values).predicted_depth)
    values = pixels.astype(np.float32) / 255
    return np.concatenate([np.asarray(apply(values[n : n + BATCH])) for n in range(0, len(values), BATCH)])


def guesses(training: Depths, count: int) -> dict[str, Depths]:
    """Without a look at the pixels: the mean of all depth, and the least squares of it by row, as a line and one by one."""
    known = np.where(valid(training), training, np.nan)
    height, width = training.shape[1:]
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], training.shape)[valid(training)]
    slope, start = np.polyfit(rows, training[valid(training)], 1)
    line = (start + slope * np.arange(height))[:, None] + np.zeros(width)
    places = {
        "the mean depth": np.full((height, width), np.nanmean(known)),
        "linear regression from the row": line,
        "the mean depth of each pixel": np.nanmean(known, axis=0),
    }
    return {name: np.broadcast_to(depth, (count, height, width)).astype(np.float32) for name, depth in places.items()}


def scored(metric: DepthErrors, depth: Depths, labels: Depths) -> list[str]:
    """The figures of predictions, `abs_rel` with its interval."""
    state = metric.update({"predicted_depth": jnp.asarray(depth)}, {"labels": jnp.asarray(labels)})
    rows = {name: np.asarray(x) for name, x in state.items()}
    figures, (low, high) = metric.compute(rows), interval(metric.compute, rows)["abs_rel"]
    cells = [f"{figures[name]:.3f}" for name in FIGURES]
    return [f"{cells[0]} ({low:.3f}–{high:.3f})", *cells[1:]]


def pictured(pixels: np.ndarray, labels: Depths, depth: Depths) -> Image.Image:
    """Rows of a picture, its depth and the predicted one in the same colours, and how far off that is; grey is not known."""
    rows = []
    for picture, truth, guess in zip(pixels, labels, depth, strict=True):
        most = max(float(truth.max()), 1e-3)
        off = np.where(truth > 0, np.abs(guess - truth), 0)
        maps = [colour_depth(x, 0.0, most) for x in (truth, guess, off)]
        rows.append(np.concatenate([picture, *(np.asarray(one)[..., :3] for one in maps)], axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-scenes"), help="where the run lies")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-scenes.md, and draw its picture")
    arguments = parser.parse_args()
    folder = arguments.runs / slug(NAME)
    result: dict[str, Any] = trained(RECIPE, folder, [])
    batch, training, metric = opened(arguments.runs / "baselines")
    depth = predicted(folder, batch["pixel_values"])
    about = f"GLPN, {result['parameters']:,} parameters, {result['steps']:,} steps"
    answers = {about: depth} | guesses(training, len(depth))
    rows = [[name, *scored(metric, guess, batch["labels"])] for name, guess in answers.items()]
    machine = "{processor}, {cores} cores, JAX {jax}".format(**result["machine"])
    said = (
        f"{result['seconds'] / 60:.1f} minutes on {machine}; {len(depth)} held-out rooms, 95 % intervals over rooms.\n"
    )
    table = f"{markdown(['', *FIGURES], rows)}\n{said}"
    print(table)
    if arguments.write:
        fill(PAGE, depth=table)
        pictured(batch["pixel_values"][:SHOWN], batch["labels"][:SHOWN], depth[:SHOWN]).save(PICTURE)


if __name__ == "__main__":
    main()
