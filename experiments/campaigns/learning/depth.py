"""Docs/learning-scenes.md, depth: what a small GLPN learns of it, beside guesses that look at no pixel.

    python -m experiments.campaigns.learning.depth --stereo FOLDER --write        the runs, their tables and pictures

The folder is that of `experiments.material.stereo`. Each run is `lacuna train` of a small recipe; what is done already is taken.
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

PAGE = DOCS / "learning-scenes.md"
RECIPE = "experiments/glpn/pretrain.py"
RENDERED, STEREO = "rendered", "stereo"
SHOWN, BATCH = {RENDERED: 6, STEREO: 4}, 20
FIGURES = ("abs_rel", "rmse", "log10", "delta1", "delta2", "delta3")

Depths = Float32[np.ndarray, "scenes height width"]


def opened(reference: str, folder: Path, **data: str) -> tuple[dict[str, np.ndarray], Depths, DepthErrors]:
    """The held-out scenes of a recipe, as the model sees them, the depth of those to train on, and the metric.

    Args:
        data: settings of the source.
    """
    experiment = load(reference)
    experiment = dataclasses.replace(experiment, folder=str(folder), data=dataclasses.replace(experiment.data, **data))
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


def compared(
    folder: Path, result: dict[str, Any], batch: dict[str, np.ndarray], training: Depths, metric: DepthErrors
) -> tuple[str, Depths]:
    """Markdown: the figures of a run and of guesses on these scenes, and where they were measured; and what the run says."""
    depth, labels = predicted(folder, batch["pixel_values"]), batch["labels"]
    about = f"GLPN, {result['parameters']:,} parameters, {result['steps']:,} steps"
    answers = {about: depth} | guesses(training, len(labels))
    rows = [[name, *scored(metric, guess, labels)] for name, guess in answers.items()]
    machine = "{processor}, {cores} cores, JAX {jax}".format(**result["machine"])
    said = f"{result['seconds'] / 60:.1f} minutes of training on {machine}, beside other work; {len(labels)} held out, 95 %"
    return f"{markdown(['', *FIGURES], rows)}\n{said} intervals over them.\n", depth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stereo", type=Path, help="crops of a real picture with its depth")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-depth"), help="where the runs lie")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-scenes.md, and draw its pictures")
    arguments = parser.parse_args()
    source = None if arguments.stereo is None else str(arguments.stereo.resolve())
    for name in (RENDERED, STEREO)[: 1 if source is None else 2]:
        reference, data, flags = RECIPE, {}, []
        if name == STEREO:
            reference, data = f"{RECIPE}:stereo", {"source": source}
            flags = ["--data.source", source, "--initial-model", str(arguments.runs / slug(RENDERED) / "model")]
        folder = arguments.runs / slug(name)
        result = trained(reference, folder, flags)
        batch, training, metric = opened(reference, arguments.runs / slug(f"opened {name}"), **data)
        table, depth = compared(folder, result, batch, training, metric)
        print(table, flush=True)
        if arguments.write:
            fill(PAGE, **{f"depth {name}": table})
            shown = slice(SHOWN[name])
            picture = pictured(batch["pixel_values"][shown], batch["labels"][shown], depth[shown])
            picture.save(DOCS / f"depth-{name}.png")


if __name__ == "__main__":
    main()
