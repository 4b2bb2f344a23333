"""Train steps on this NVIDIA GPU beside those of `transformers` on PyTorch, eager and compiled, in f32 and in bf16.

    make bench MODELS=gpu                                      the table of docs/speed.md
    python -m experiments.benchmarks.gpu_steps --models bert vit-small --batch 64

The models of `steps` with more examples in a step, the contestants in turn as there. In f32 both sides multiply matrices in
TF32, as JAX does unasked; in bf16 ours keeps parameters and optimizer in f32, torch is autocast. The last line is JSON.
"""

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.benchmarks.pages import fill, summary
from experiments.benchmarks.steps import DEFAULT, PAGE, ROOT, TORCH, Contestant
from experiments.benchmarks.works import IMAGES, TEXTS, WORK

DTYPES = {"f32": ("", ""), "bf16": (", bf16", ", bf16 autocast")}
HEAD = ["", "batch", "", "Lacuna, ms", "torch, ms", "`torch.compile`, ms", "times as fast", "than compiled"]


def begin(model: str, arguments: argparse.Namespace) -> dict[str, list[Contestant]]:
    """For each dtype this code, torch and torch compiled, getting ready side by side."""
    by_dtype = {}
    for dtype in arguments.dtypes:
        mine, autocast = DTYPES[dtype]
        pythons = {DEFAULT + mine: sys.executable, TORCH + autocast: arguments.parity_python}
        if not arguments.eager:
            pythons[f"{TORCH}.compile{autocast}"] = arguments.parity_python
        by_dtype[dtype] = [
            Contestant(name, model, python, False, "cuda", arguments.batch) for name, python in pythons.items()
        ]
    return by_dtype


def measured(models: list[str], arguments: argparse.Namespace) -> Iterator[tuple[str, str, list[Contestant]]]:
    """Model, dtype and the contestants with their times; all of these models get ready together, then each runs in turn."""
    begun = {model: begin(model, arguments) for model in models}
    everybody = [contestant for by_dtype in begun.values() for some in by_dtype.values() for contestant in some]
    for contestant in everybody:
        contestant.ready()
    for model, by_dtype in begun.items():
        for _ in range(arguments.rounds):
            for contestant in itertools.chain(*by_dtype.values()):
                contestant.go(arguments.steps)
        for dtype, some in by_dtype.items():
            yield model, dtype, some
    for contestant in everybody:
        contestant.end()


def row(model: str, batch: int, dtype: str, contestants: list[Contestant]) -> str:
    times = [f"{1e3 * c.seconds:.2f} ({1e3 * min(c.times):.2f}–{1e3 * max(c.times):.2f})" for c in contestants]
    ratios = [f"{c.seconds / contestants[0].seconds:.2f}" for c in contestants[1:]]
    cells = [f"`{WORK[model].architecture}` ({model})", str(batch), dtype, *times, *[""] * (3 - len(times)), *ratios]
    return f"| {' | '.join(cells + [''] * (len(HEAD) - len(cells)))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[*TEXTS, *IMAGES], choices=list(WORK))
    parser.add_argument("--dtypes", nargs="*", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--batch", type=int, default=128, help="examples in a step")
    parser.add_argument("--at-once", type=int, default=1, help="models whose contestants wait in memory together")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--parity-python", default=sys.executable, help="interpreter with transformers 5 and torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps of a contestant in each round")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "gpu_steps.json", help="where the numbers go")
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = subprocess.check_output(asked, text=True).splitlines()[0].replace(", ", ", driver ")

    lines, ratios, results, versions = [f"| {' | '.join(HEAD)} |", "|---|--:|---|" + "--:|" * 5], [], {}, {}
    print("\n".join(lines))
    for first in range(0, len(arguments.models), arguments.at_once):
        for model, dtype, contestants in measured(arguments.models[first : first + arguments.at_once], arguments):
            lines.append(row(model, arguments.batch, dtype, contestants))
            print(lines[-1], flush=True)
            ratios.append([math.log(c.seconds / contestants[0].seconds) for c in contestants[1:]])
            results[f"{model}, {dtype}"] = {c.name: c.times for c in contestants}
            versions |= {name: version for c in contestants for name, version in c.versions.items()}
            text = json.dumps({"gpu": gpu, "versions": versions, "results": results}, indent=1)
            arguments.json.write_text(text + "\n")
    means = [f"{math.exp(statistics.fmean(column)):.2f}" for column in zip(*ratios, strict=True)]
    lines.append(f"| geometric mean | | | | | | {' | '.join(means + [''] * (2 - len(means)))} |\n")
    caption = f"{gpu}; median (least–most) of {arguments.rounds} rounds × {arguments.steps} steps, in turn; "
    caption += ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n"
    print(lines[-1], caption, sep="\n")
    if arguments.write:
        fill(PAGE, **{"gpu steps": "\n".join(lines), "gpu machine": caption})
    summary("gpu_steps", gpu=gpu, versions=versions, results=results)


if __name__ == "__main__":
    main()
