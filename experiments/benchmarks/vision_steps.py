"""Train steps of image classifiers on this CPU beside those of `transformers` on PyTorch, in turn, in float32.

    make bench MODELS=images                                   the second table of docs/speed.md

As `steps` does it: each contestant is a process of its own that has built and warmed up its step and waits, glibc told to
keep freed memory. The work (`WORK` in vision_steps_worker.py): forward, cross entropy, gradients clipped to norm 1 and
AdamW, theirs fused; batch norms of the batch, blocks skipped as the config says.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from experiments.benchmarks.pages import fill
from experiments.benchmarks.steps import PAGE, ROOT, Contestant, processor
from experiments.benchmarks.vision_steps_worker import OURS, THEIRS, WORK


def measured(model: str, arguments: argparse.Namespace) -> list[Contestant]:
    """Ours and theirs, each with its times."""
    pythons = {OURS: sys.executable, THEIRS: arguments.parity_python}
    contestants = [
        Contestant(name, model, python, keep=True, worker="vision_steps_worker.py").ready()
        for name, python in pythons.items()
    ]
    for _ in range(arguments.rounds):
        for contestant in contestants:
            contestant.go(arguments.steps)
    for contestant in contestants:
        contestant.end()
    return contestants


def row(model: str, ours: Contestant, theirs: Contestant) -> str:
    seconds = (f"{c.seconds:.3f} ({min(c.times):.3f}–{max(c.times):.3f})" for c in (ours, theirs))
    about = f"`{WORK[model].architecture}` ({model}) | {WORK[model].batch}"
    return f"| {about} | {' | '.join(seconds)} | {theirs.seconds / ours.seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(WORK), choices=list(WORK))
    parser.add_argument("--parity-python", default=sys.executable, help="interpreter with transformers 5 and torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps of a contestant in each round")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "vision_steps.json", help="where the numbers go")
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    found, lines = {}, ["| | batch | Lacuna, s | `transformers` on torch, s | times as fast |", "|---|--:|--:|--:|--:|"]
    for model in arguments.models:
        found[model] = measured(model, arguments)
        lines.append(row(model, *found[model]))
        print(lines[-1], flush=True)
    ratios = [theirs.seconds / ours.seconds for ours, theirs in found.values()]
    lines.append(f"| geometric mean | | | | {math.exp(statistics.fmean(map(math.log, ratios))):.2f} |\n")
    versions = {name: version for pair in found.values() for c in pair for name, version in c.versions.items()}
    said = f"{processor()}; median (least–most) of {arguments.rounds} rounds × {arguments.steps} steps, in turn; "
    said += ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n"
    print(lines[-1], said, sep="\n")
    if arguments.write:
        fill(PAGE, **{"image steps": "\n".join(lines), "image machine": said})
    results = {model: {c.name: c.times for c in pair} for model, pair in found.items()}
    arguments.json.write_text(
        json.dumps({"processor": processor(), "versions": versions, "results": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
