"""Docs/learning-images.md: what small image models learn of real pictures, beside nearest neighbours and a large model's eyes.

    make learning-images DIGITS=FOLDER STAMPS=FOLDER VIT_S14=vit_s_focus.onnx       all runs and the page

The folders are those of `experiments.material.pictures`, the file that of `experiments.material.vit_s14`. Each run is
`lacuna train` of a small recipe, one after the other; what is done already is taken.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.forms import ImageForm
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import slug, trained
from experiments.experiment import load
from experiments.material import vit_s14

PAGE = DOCS / "learning-images.md"
ViT = "experiments/vit/pretrain.py"
RUNS = {
    "ViT": ("digits", f"{ViT}:digits"),
    "ConvNeXT": ("digits", "experiments/convnext/pretrain.py"),
    "CvT": ("digits", "experiments/cvt/pretrain.py"),
    "LeViT": ("digits", "experiments/levit/pretrain.py"),
    "Swin": ("digits", "experiments/swin/pretrain.py"),
    "ResNet": ("digits", "experiments/resnet/pretrain.py"),
    "ViT, from scratch": ("stamps", f"{ViT}:stamps"),
    "ViT, masked images": ("stamps", f"{ViT}:masked_stamps"),
    "ViT, masked images, then fine-tuned": ("stamps", f"{ViT}:stamps"),
}
"""Name: pictures, recipe. The last begins with what the one before it left."""
NEIGHBOURS, PROBED = "nearest neighbours of pixels", "linear probe of ViT-S/14"
PROBE_SIZE = 224


def train(name: str, runs: Path, source: Path) -> dict[str, Any]:
    """The result of a run, which is done first where it is not."""
    folder = runs / slug(name)
    flags = ["--data.source", str(source)]
    if name.endswith("then fine-tuned"):
        flags += ["--initial-model", str(runs / slug("ViT, masked images") / "model")]
    result = trained(RUNS[name][1], folder, flags)
    print(f"{name}: {result['held_out']}, {result['seconds']:.0f} s", flush=True)
    return result


def opened(reference: str, source: Path, folder: Path) -> Assembly:
    """A recipe's parts, to read its pictures."""
    experiment = load(reference)
    data = dataclasses.replace(experiment.data, source=str(source))
    return assemble(dataclasses.replace(experiment, data=data, folder=str(folder)))


def pictures(prepared: Any, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and labels of the training pictures, as for evaluation, and of the held-out ones."""
    form = ImageForm(size)
    training = dataclasses.replace(prepared, held_out_items=prepared.training_items)
    batches = [x.batch(np.arange(len(x))) for x in (training.held_out(form), prepared.held_out(form))]
    return tuple(batch[name] for batch in batches for name in ("pixel_values", "labels"))


def nearest(prepared: Any, size: int) -> float:
    """Accuracy of the best of 1, 3 and 5 nearest neighbours, on the held-out pictures themselves: the more to beat."""
    from sklearn.neighbors import KNeighborsClassifier

    x, y, other_x, other_y = pictures(prepared, size)
    x, other_x = (pixels.reshape(len(pixels), -1).astype(np.float32) for pixels in (x, other_x))
    return max(KNeighborsClassifier(k).fit(x, y).score(other_x, other_y) for k in (1, 3, 5))


def probed(prepared: Any, file: Path) -> float:
    """Accuracy of logistic regression on [CLS] and the mean of the patches of a ViT-S/14 that never saw the labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    model, variables = vit_s14.load(file)
    mean, deviation = (np.asarray(x, np.float32) for x in (vit_s14.MEAN, vit_s14.DEVIATION))

    @jax.jit
    def seen(pixels):
        hidden = model.apply(variables, pixels, interpolate_pos_encoding=True).last_hidden_state
        return jax.numpy.concatenate([hidden[:, 0], hidden[:, 1:].mean(axis=1)], axis=-1)

    def features(pixels: np.ndarray) -> np.ndarray:
        values = (pixels.astype(np.float32) / 255 - mean) / deviation
        whole = np.concatenate([values, np.zeros((-len(values) % 16, *values.shape[1:]), np.float32)])
        return np.concatenate([np.asarray(seen(part)) for part in np.split(whole, len(whole) // 16)])[: len(values)]

    x, y, other_x, other_y = pictures(prepared, PROBE_SIZE)
    scaler = StandardScaler().fit(features(x))
    probe = LogisticRegression(C=0.01, max_iter=2_000).fit(scaler.transform(features(x)), y)
    return float(probe.score(scaler.transform(features(other_x)), other_y))


def table(results: dict[str, dict[str, Any]], others: dict[str, float]) -> str:
    """Markdown: each run on these pictures, what it is held against, and where that was measured."""
    head = ["", "parameters", "steps", "held out", "of", "minutes"]
    rows = []
    for name, result in results.items():
        held_out, count = result["held_out"], result["corpus"]["held_out"]
        accuracy = held_out.get("top_1_accuracy")
        figure = f"loss {held_out['loss']:.4f}" if accuracy is None else f"{accuracy:.2%}"
        rows.append([name, f"{result['parameters']:,}", f"{result['steps']:,}", figure, f"{count:,}"])
        rows[-1].append(f"{result['seconds'] / 60:.1f}")
    rows += [[name, "", "", f"{accuracy:.2%}", "", ""] for name, accuracy in others.items()]
    machines = {
        "{processor}, {cores} cores, JAX {jax}".format(**result["machine"]): None for result in results.values()
    }
    return f"{markdown(head, rows)}\nMeasured on {' and '.join(machines)}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, help="class folders of handwritten digits")
    parser.add_argument("--stamps", type=Path, help="class folders of stamps")
    parser.add_argument("--vit-s14", type=Path, help="the ONNX file of the published ViT-S/14")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-images"), help="where the runs lie")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-images.md")
    arguments = parser.parse_args()
    sources = {"digits": arguments.digits, "stamps": arguments.stamps}
    results = {
        name: train(name, arguments.runs, sources[RUNS[name][0]].resolve())
        for name in RUNS
        if name in arguments.only and sources[RUNS[name][0]] is not None
    }
    tables = {}
    for kind, source in sources.items():
        if source is None:
            continue
        reference = next(reference for of, reference in RUNS.values() if of == kind)
        assembly = opened(reference, source.resolve(), arguments.runs / "baselines")
        others = {NEIGHBOURS: nearest(assembly.data, assembly.experiment.form(-1).size)}
        if kind == "stamps" and arguments.vit_s14 is not None:
            others[PROBED] = probed(assembly.data, arguments.vit_s14)
        tables[kind] = table({name: result for name, result in results.items() if RUNS[name][0] == kind}, others)
        print(tables[kind], flush=True)
    if arguments.write:
        fill(PAGE, **tables)


if __name__ == "__main__":
    main()
