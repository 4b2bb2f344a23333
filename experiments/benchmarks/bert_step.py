"""The BERT train step on this CPU beside those of `transformers`: who does how many tokens a second.

    python -m experiments.benchmarks.bert_step --parity-python PATH --flax-python PATH [--rounds 5]

`--parity-python` has `transformers` 5 with PyTorch, `--flax-python` has `transformers` 4.57 with Flax (the last to carry
it); either may be left out. Every contestant is a process of its own that has built and warmed up its step and waits; one
runs at a time, in turn, so that a change in the machine's speed meets all alike. Each is there twice, with glibc as it
comes and told to keep freed memory instead of handing it back to the kernel after every step.

The work: BERT of 4 layers × 512 with 8 heads, vocabulary 30,522, 16 sequences of 128 tokens of which 20 are masked,
next-sentence head, dropout 0.1, AdamW with gradients clipped to norm 1. Ours also corrupts the batch within the step.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.benchmarks.bert_step_worker import BATCH, CONTESTANTS, LENGTH

ROOT = Path(__file__).resolve().parents[2]
KEEP_FREED_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}


class Contestant:
    """A worker process, told to go one at a time."""

    def __init__(self, name: str, python: str, keep: bool):
        self.name, self.keep, self.times = name, keep, []
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        environment = {k: v for k, v in environment.items() if k not in KEEP_FREED_MEMORY}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("bert_step_worker.py")), name],
            env={**environment, **(KEEP_FREED_MEMORY if keep else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        ready = self.answer()
        self.versions = ready["versions"]
        self.warm_up = ready["warm"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.name} ended:\n{self.errors.read()}")
        return json.loads(line)

    def go(self, steps: int) -> None:
        print(steps, file=self.process.stdin, flush=True)
        self.times.append(self.answer())

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


def table(contestants: list[Contestant]) -> str:
    """Markdown: each contestant's median step, and how many of its steps the fastest of ours (f32) does meanwhile."""
    best = min(c.seconds for c in contestants if c.name in ("ours, pmap", "ours, jit"))
    rows = ["| step | glibc | seconds | range | tokens/s | × ours | versions |", "|---|---|--:|--:|--:|--:|---|"]
    for c in contestants:
        versions = ", ".join(f"{name} {version}" for name, version in c.versions.items())
        rows.append(
            f"| {c.name} | {'keeps memory' if c.keep else 'as it comes'} | {c.seconds:.3f}"
            f" | {min(c.times):.3f}–{max(c.times):.3f} | {BATCH * LENGTH / c.seconds:,.0f}"
            f" | {c.seconds / best:.2f} | {versions} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity-python", help="interpreter with transformers 5 and torch")
    parser.add_argument("--flax-python", help="interpreter with transformers 4.57, jax and flax")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of a contestant in each round")
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), help="names of contestants")
    parser.add_argument("--json", type=Path, default=Path("bert_step.json"), help="where the numbers go")
    arguments = parser.parse_args()

    contestants = []
    for name in arguments.only:
        theirs = arguments.flax_python if "Flax" in name else arguments.parity_python
        python = sys.executable if name.startswith("ours") else theirs
        if python is None:
            continue
        for keep in (False, True):
            contestants.append(Contestant(name, python, keep))
            print(f"ready: {name}, after {contestants[-1].warm_up:.1f} s of warming up", file=sys.stderr)
    for _ in range(arguments.rounds):
        for contestant in contestants:
            contestant.go(arguments.steps)

    print(f"{processor()}; median of {arguments.rounds} rounds × {arguments.steps} steps, in turn\n")
    print(table(contestants))
    fields = ("name", "keep", "seconds", "times", "warm_up", "versions")
    results = [{field: getattr(c, field) for field in fields} for c in contestants]
    arguments.json.write_text(json.dumps({"processor": processor(), "results": results}, indent=1) + "\n")
    for contestant in contestants:
        contestant.process.stdin.close()
        contestant.process.wait()


if __name__ == "__main__":
    main()
