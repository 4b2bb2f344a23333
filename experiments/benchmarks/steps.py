"""Train steps on this CPU beside those of `transformers`: who does how many tokens a second.

    make bench [FLAX_PYTHON=PATH]                              BERT in float32 beside torch and Flax
    make bench MODELS=all                                      every text architecture beside torch, docs/speed.md
    make bench MODELS=images                                   the image classifiers, docs/speed.md
    make bench MODELS=audio                                    models of recordings, docs/speed.md
    make bench MODELS=scenes                                   boxes, masks and depth, docs/speed.md

The interpreter `--parity-python` has `transformers` 5 with PyTorch, `--flax-python` has `transformers` 4.57 with Flax (the
last to carry it; BERT alone); either may be left out. Every contestant is a process of its own that has built and warmed up
its step and waits; one runs at a time, in turn, so that a change in the machine's speed meets all alike. Each is there
twice, with glibc as it comes and told to keep freed memory instead of handing it back to the kernel after every step, as
`lacuna train` tells it by itself; of several architectures ours is there in that way alone.

The work (works.py): models of 4 layers × 512, 16 sequences of 128 tokens; or classifiers of 224 × 224 pixels. AdamW with
gradients clipped to norm 1, dropout as the architecture has it. Ours is the step that a run trains with: it also corrupts the
batch, or augments it, within the step. `gpu_steps` does the same on a GPU. The last line is JSON.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from experiments.benchmarks.pages import fill, summary
from experiments.benchmarks.works import AUDIO, IMAGES, SCENES, TEXTS, WORK

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"image ": IMAGES, "audio ": AUDIO, "scene ": SCENES}
"""What the marks of a table begin with, by the models that it is of."""
PAGE = ROOT / "docs" / "speed.md"
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""Settings of glibc; without the first two, memory that other threads than the first one ask for is handed back anyway."""
DEFAULT, TORCH, CORRUPTION = "ours, pmap", "transformers, torch", "ours, corruption alone"
"""How a run of ours steps unless told otherwise, what it is held against, and a part of it."""
SINGLE = [DEFAULT, "ours, jit", TORCH, "transformers, Flax", "transformers, Flax, integer labels"]
"""Contestants where one model is asked for: what computes in float32 (all at once, keeping memory, need more than 24 GB)."""


class Contestant:
    """A process of a `worker`, begun at once; when `ready`, told to go one at a time."""

    def __init__(
        self,
        name: str,
        model: str,
        python: str,
        keep: bool,
        platform: str = "cpu",
        batch: int | None = None,
        worker: str = "steps_worker.py",
    ):
        self.name, self.model, self.keep, self.times = name, model, keep, []
        environment = {**os.environ, "JAX_PLATFORMS": platform, "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # they share a GPU
        environment = {k: v for k, v in environment.items() if k not in KEEP_FREED_MEMORY}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name(worker)), name, model, *([] if batch is None else [str(batch)])],
            env={**environment, **(KEEP_FREED_MEMORY if keep else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def ready(self) -> "Contestant":
        """Wait until it has warmed up."""
        self.facts = said = self.answer()
        self.versions, self.warm_up = said["versions"], said["warm"]
        print(
            f"ready: {self.model}, {self.name}, after {self.warm_up:.1f} s of warming up", file=sys.stderr, flush=True
        )
        return self

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            code = self.process.wait()
            raise SystemExit(f"{self.name} ended with exit code {code} (-9: out of memory):\n{self.errors.read()}")
        return json.loads(line)

    def go(self, steps: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # of a process that has ended: `answer` says what it said last
            print(steps, file=self.process.stdin, flush=True)
        self.times.append(self.answer())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)


def processor() -> str:
    """The processor's name, with the instruction sets that decide, and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
    name = facts.get("model name", platform.processor() or platform.machine())
    sets = [x for x in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if x in facts.get("flags", "").split()]
    return f"{name} (family {facts.get('cpu family', '?')}), {os.cpu_count()} cores, {' '.join(sets)}"


def measured(model: str, arguments: argparse.Namespace) -> list[Contestant]:
    """The contestants of one model, each with its times.

    Of several architectures both settings of glibc go at once; of one, with all its contestants, one after the other: sixteen
    processes that keep what they freed do not fit into 24 GB.
    """
    if len(arguments.models) > 1:
        chosen = [(name, keep) for name in arguments.only for keep in (False, True) if keep or name == TORCH]
        return _in_turn(model, chosen, arguments)
    return [
        contestant
        for keep in (False, True)
        for contestant in _in_turn(model, [(name, keep) for name in arguments.only], arguments)
    ]


def _in_turn(model: str, chosen: list[tuple[str, bool]], arguments: argparse.Namespace) -> list[Contestant]:
    """These contestants, by name and by whether they keep freed memory, after they have run in turn."""
    contestants = []
    for name, keep in chosen:
        theirs = arguments.flax_python if "Flax" in name else arguments.parity_python
        python = sys.executable if name.startswith("ours") else theirs
        if python is None or ("Flax" in name and model != "bert"):
            continue
        contestants.append(Contestant(name, model, python, keep).ready())
    for _ in range(arguments.rounds):
        for contestant in contestants:
            contestant.go(arguments.steps)
    for contestant in contestants:
        contestant.end()
    return contestants


def table(contestants: list[Contestant], items: int, unit: str) -> str:
    """Markdown: each contestant's median step of so many `items`, and how many steps the fastest of ours (f32) does meanwhile."""
    best = min((c.seconds for c in contestants if c.name in ("ours, pmap", "ours, jit")), default=math.nan)
    rows = [f"| step | glibc | seconds | range | {unit}/s | × ours | versions |", "|---|---|--:|--:|--:|--:|---|"]
    for c in contestants:
        versions = ", ".join(f"{name} {version}" for name, version in c.versions.items())
        rows.append(
            f"| {c.name} | {'keeps memory' if c.keep else 'as it comes'} | {c.seconds:.3f}"
            f" | {min(c.times):.3f}–{max(c.times):.3f} | {items / c.seconds:,.0f}"
            f" | {c.seconds / best:.2f} | {versions} |"
        )
    return "\n".join(rows)


def family_table(found: dict[str, list[Contestant]]) -> str:
    """Markdown: for each model our default step and torch's, either with the faster of the two settings of glibc.

    The last column is the share of the corruption in our step.
    """
    head = ["", "objective", "batch", "Lacuna, s", "`transformers` on torch, s", "times as fast", "corruption"]
    rows = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|--:|--:|"]
    ratios = []
    for model, contestants in found.items():
        ours, theirs, corruption = (
            min((c for c in contestants if c.name == name), key=lambda c: c.seconds)
            for name in (DEFAULT, TORCH, CORRUPTION)
        )
        ratios.append(theirs.seconds / ours.seconds)
        cells = [f"`{WORK[model].architecture}` ({model})", f"`{WORK[model].objective}`", str(WORK[model].batch)]
        cells += [f"{c.seconds:.3f} ({min(c.times):.3f}–{max(c.times):.3f})" for c in (ours, theirs)]
        rows.append(f"| {' | '.join(cells)} | {ratios[-1]:.2f} | {corruption.seconds / ours.seconds:.2%} |")
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    return "\n".join([*rows, f"| geometric mean | | | | | {mean:.2f} | |"]) + "\n"


def described(found: dict[str, list[Contestant]], arguments: argparse.Namespace) -> str:
    """The machine, how often each was timed, and the versions, in a line."""
    everybody = [contestant for some in found.values() for contestant in some]
    timed = f"median of {arguments.rounds} rounds × {arguments.steps} steps, in turn"
    return f"{processor()}; {timed}. {versions_of(everybody)}.\n"


def versions_of(contestants: Iterable[Contestant]) -> str:
    """What the contestants ran with, in words."""
    versions = {package: version for one in contestants for package, version in one.versions.items()}
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = {"all": list(TEXTS), "images": list(IMAGES), "audio": ["wav2vec2-base", "whisper-tiny"]}
    groups["scenes"] = list(SCENES)
    parser.add_argument("--models", nargs="*", default=["bert"], choices=[*groups, *WORK])
    parser.add_argument("--parity-python", help="interpreter with transformers 5 and torch")
    parser.add_argument("--flax-python", help="interpreter with transformers 4.57, jax and flax")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of a contestant in each round")
    parser.add_argument("--only", nargs="*", help="names of contestants")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "steps.json", help="where the numbers go")
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    arguments.models = models = [name for model in arguments.models for name in groups.get(model, [model])]
    if arguments.only is None:
        arguments.only = SINGLE if models == ["bert"] else [DEFAULT, TORCH, CORRUPTION]

    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    found, results = {}, {}
    for model in models:
        found[model] = measured(model, arguments)
        print(f"\n{model}\n\n{table(found[model], *WORK[model].items)}\n", flush=True)
        fields = ("name", "keep", "seconds", "times", "warm_up", "versions")
        results[model] = [{field: getattr(c, field) for field in fields} for c in found[model]]
        arguments.json.write_text(json.dumps({"processor": processor(), "results": results}, indent=1) + "\n")
    said, compared = described(found, arguments), {DEFAULT, TORCH, CORRUPTION} <= set(arguments.only)
    print(said)
    if compared and len(models) > 1:
        print(family_table(found))
        if arguments.write:
            kind = next((kind for kind, group in KINDS.items() if models[0] in group), "")
            fill(PAGE, **{f"{kind}steps": family_table(found), f"{kind}machine": said})
    summary("steps", processor=processor(), results=results)


if __name__ == "__main__":
    main()
