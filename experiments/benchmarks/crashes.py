"""Kills a run again and again until it is done, and holds what came of it against one that nobody disturbed.

    python -m experiments.benchmarks.crashes [--kills 50] [--processes 2] [--platform cuda] [--seed 0] [--write docs/crashes.md]
    python -m experiments.benchmarks.crashes --experiment FILE:NAME      of another run than that of a very small BERT

Each life of the run is the real `lacuna train`, in a process of its own (forked from one that has imported everything and
computed nothing, so that a start costs a second or two). It is ended by `kill -9` or SIGTERM at a moment drawn from the
seed: while it starts, while it trains, or while a checkpoint is being written. After each, no file may be broken. In the
end parameters, optimizer state, the numbers of every step and the digests of its examples are compared to the bit.
With `--processes` several processes train together; one of them is ended, and the others have to end by themselves.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

import jax
import numpy as np
import orbax.checkpoint as ocp

from data.text import Text
from experiments import cli
from experiments.commands.train import machine
from experiments.experiment import Experiment, Phase, load
from models.bert import BertConfig
from objectives import MaskedLM, NextSentence, Sum
from training.checkpoints import Checkpoints
from training.metrics import read_metrics
from training.optimizers import AdamW

PHASES = ("start-up", "training", "writing")
WEIGHTS = (0.15, 0.25, 0.6)
LONGEST = 300.0
"""Seconds after which a life that has not got where it is to be ended, or does not end, is a failure."""


def crashing() -> Experiment:
    """A model so small that most of its time goes to checkpoints."""
    return Experiment(
        name="crashing",
        architecture="BertForPreTraining",
        model=BertConfig(
            vocab_size=512,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        ),
        objective=Sum(MaskedLM(), NextSentence()),
        data=Text(held_out=0.1),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=5),
        batch_size=8,
        phases=(Phase(0.75, 16), Phase(0.25, 32)),
        evaluate_every=40,
        evaluation_examples=16,
        checkpoint_every=3,
    )


class CrashError(AssertionError):
    """A run that did not survive."""


@dataclasses.dataclass
class Campaign:
    """One run, its lives and deaths.

    Attributes:
        arguments: of `lacuna train`, without the folder.
        folder: of the run.
        processes: that train together.
    """

    arguments: Sequence[str]
    folder: Path
    processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.deaths: collections.Counter[tuple[str, str]] = collections.Counter()
        self.server = multiprocessing.get_context("forkserver")
        self.server.set_forkserver_preload(["experiments.commands.train", "experiments.report", "experiments.cli"])

    def start(self) -> list[multiprocessing.process.BaseProcess]:
        """Begin a life: all processes of the run."""
        arguments = ["train", *self.arguments, "--folder", str(self.folder)]
        port = _free_port()
        lives = []
        for number in range(self.processes):
            place = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(self.processes), "--process", str(number)]
            own = [*arguments, *place] if self.processes > 1 else arguments
            log = self.folder.with_name(f"{self.folder.name}.{number}.log")
            lives.append(self.server.Process(target=live, args=(own, str(log))))
            lives[-1].start()
        return lives

    def undisturbed(self) -> None:
        """Run to the end."""
        self._join(self.start(), [0], 10 * LONGEST)

    def kill(self) -> bool:
        """Start, and end at a moment drawn from the seed; `False` where the run was done before it came."""
        phase = self.rng.choices(PHASES, WEIGHTS)[0]
        number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        before, first = self._unfinished(), self._step()
        lives = self.start()
        if not self._await(phase, lives, before, first):
            self._join(lives, [0])
            return False
        victim = self.rng.choice(lives)
        pids = [victim.pid, *children(victim.pid)] if number == signal.SIGKILL else [victim.pid]
        writing = bool(self._unfinished() - before)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.rng.choice(pids), number)
        self._join(lives, [0, -number, 128 + number] if self.processes == 1 else None)
        if all(life.exitcode == 0 for life in lives):
            return False
        if number == signal.SIGKILL:  # what is there now was there when it died
            writing = bool(self._unfinished() - before)
        met = "writing" if writing else "start-up" if self._step() == first else "training"
        self.deaths[signal.Signals(number).name, met] += 1
        broken = self.broken()
        if broken:
            raise CrashError(f"after {signal.Signals(number).name} while {met}: {broken}")
        return True

    def _await(self, phase: str, lives, before: set, first: int) -> bool:
        """Wait for the moment; `False` where the run ends before."""
        begin, delay = time.monotonic(), self.rng.random()
        steps = self.rng.randrange(1, 8)
        while lives[0].is_alive():
            elapsed = time.monotonic() - begin
            if phase == "start-up" and elapsed > 3 * delay:
                return True
            if phase == "training" and self._step() >= first + steps:
                time.sleep(0.05 * delay)
                return True
            if phase == "writing" and self._step() >= first + steps and self._unfinished() - before:
                time.sleep(0.1 * delay)
                return True
            if elapsed > LONGEST:
                raise CrashError(f"a life of {LONGEST:.0f} s has not come to {phase}")
            time.sleep(0.005)
        return False

    def _join(self, lives, codes: list[int] | None, seconds: float = LONGEST) -> None:
        """Wait for the end of all; each exit code must be among `codes`, any where `None`."""
        deadline = time.monotonic() + seconds
        for life in lives:
            life.join(max(0.0, deadline - time.monotonic()))
        hanging = [life for life in lives if life.is_alive()]
        for life in hanging:
            life.kill()
        logs = [self.folder.with_name(f"{self.folder.name}.{number}.log") for number in range(self.processes)]
        said = "\n".join(log.read_text()[-2000:] for log in logs if log.exists())
        if hanging:
            raise CrashError(f"{len(hanging)} process(es) did not end within {seconds:.0f} s\n{said}")
        if codes is not None and any(life.exitcode not in codes for life in lives):
            raise CrashError(f"exit codes {[life.exitcode for life in lives]}, expected one of {codes}\n{said}")

    def _step(self) -> int:
        """The last step of `metrics.jsonl`, from its last lines."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return 0
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            steps = re.findall(rb'^{"step": (\d+),', file.read(), re.MULTILINE)
        return int(steps[-1]) if steps else 0

    def _unfinished(self) -> set[tuple[str, int]]:
        """Checkpoints that are being written or removed."""
        found = set()
        folder = self.folder / "checkpoints"
        for path in folder.iterdir() if folder.exists() else ():
            try:
                if not path.name.isdigit():
                    found.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        return found

    def broken(self) -> str:
        """What of the run's files is not whole; what a crash left half-written has a name that says so."""
        for path in [*self.folder.glob("*.json"), *self.folder.glob("checkpoints.sums/*.json")]:
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                return f"{path}: {error}"
        metrics = self.folder / "metrics.jsonl"
        written = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if written != len(read_metrics(metrics)):
            return f"{metrics} holds {written} lines, of which {len(read_metrics(metrics))} can be read"
        if (self.folder / "checkpoints").exists():
            checkpoints = Checkpoints(self.folder / "checkpoints")
            for step in checkpoints.steps():
                if checkpoints.damage(step):
                    return f"checkpoint of step {step}: {checkpoints.damage(step)}"
            checkpoints.close()
        return ""


def live(arguments: list[str], log: str) -> None:
    """`lacuna ARGUMENTS`, in this process."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["lacuna", *arguments]
    cli.main(arguments)


def differences(one: Path, other: Path) -> list[str]:
    """What of two finished runs is not equal to the bit."""
    found = []
    lines = []
    for folder in (one, other):
        all_lines = read_metrics(folder / "metrics.jsonl")
        lines.append([{name: value for name, value in line.items() if name != "time"} for line in all_lines])
    if not all("digest" in line for line in lines[0] if line["split"] == "train"):
        found.append("there is no digest of the examples to compare")
    if lines[0] != lines[1]:
        steps = [a["step"] for a, b in zip(*lines, strict=False) if a != b]
        found.append(f"metrics differ: {len(lines[0])} and {len(lines[1])} lines, first at step {steps[:1]}")
    states = [final_state(folder) for folder in (one, other)]
    if states[0].keys() != states[1].keys():
        found.append("the states have other arrays")
    else:
        found += [name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()]
    return found


def final_state(folder: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by name: step, parameters, moments."""
    checkpoints = Checkpoints(folder / "checkpoints")
    step = checkpoints.steps()[-1]
    damage = checkpoints.damage(step)
    if damage is not None:
        raise CrashError(f"checkpoint of step {step} in {folder}: {damage}")
    checkpoints.close()
    path = checkpoints.folder / str(step) / "state"
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree)
    state = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=arrays))
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(state)}


def _free_port() -> int:
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def children(pid: int) -> list[int]:
    """Processes that any thread of a process has started (Linux)."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def table(deaths: collections.Counter) -> str:
    """Markdown: deaths by signal and phase."""
    rows = ["| | " + " | ".join(PHASES) + " | all |", "|---|" + "--:|" * (len(PHASES) + 1)]
    for name in ("SIGKILL", "SIGTERM"):
        counts = [deaths[name, phase] for phase in PHASES]
        rows.append(f"| {name} | " + " | ".join(map(str, [*counts, sum(counts)])) + " |")
    counts = [sum(deaths[name, phase] for name in ("SIGKILL", "SIGTERM")) for phase in PHASES]
    return "\n".join([*rows, "| both | " + " | ".join(map(str, [*counts, sum(counts)])) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1, help="that train together")
    parser.add_argument("--platform", default="cpu", choices=["cpu", "cuda", "tpu"], help="where it trains")
    parser.add_argument(
        "--experiment", default=__file__, help="FILE[:NAME]; it should have a checkpoint every few steps"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="a Markdown file for the result: its part of this many processes")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = arguments.platform
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("LACUNA_CACHE", str(folder / "cache"))
        (folder / "texts").mkdir()
        for topic, text in sorted(topics.items())[:60]:
            (folder / "texts" / f"{topic}.txt").write_text(text)
        steps = (10 if arguments.processes == 1 else 4) * arguments.kills + 20
        source = ["--data.source", str(folder / "texts")] if arguments.experiment == __file__ else []
        flags = [arguments.experiment, *source, "--steps", str(steps)]
        whole = Campaign(flags, folder / "undisturbed", arguments.processes)
        whole.undisturbed()
        campaign = Campaign(flags, folder / "disturbed", arguments.processes, arguments.seed)
        while campaign.deaths.total() < arguments.kills and campaign.kill():
            print(
                f"{campaign.deaths.total()} of {arguments.kills}, step {campaign._step()}", file=sys.stderr, flush=True
            )
        if campaign.deaths.total() < arguments.kills:
            raise SystemExit(f"the run was done after {campaign.deaths.total()} of {arguments.kills} deaths")
        campaign.undisturbed()
        different = [*differences(whole.folder, campaign.folder), *filter(None, [campaign.broken()])]
        if campaign._unfinished():
            different.append(f"left behind: {campaign._unfinished()}")
    result = "not equal: " + "; ".join(different) if different else "equal to the bit"
    processes = f"{arguments.processes} processes" if arguments.processes > 1 else "One process"
    asked = {name: getattr(arguments, name) for name in ("processes", "kills", "platform", "experiment")}
    unusual = [f"--{name} {value}" for name, value in asked.items() if value != parser.get_default(name)]
    flags = f" CRASHES='{' '.join(unusual)}'" if unusual else ""
    processes += "" if arguments.platform == "cpu" else f" on {arguments.platform}"
    processes += "" if arguments.experiment == __file__ else f", {arguments.experiment}"
    text = "\n".join(
        [
            f"## {processes}",
            "",
            f"`make crashes{flags}`: {arguments.kills} deaths, seed {arguments.seed}, {steps} steps, a checkpoint every"
            f" {load(arguments.experiment).checkpoint_every}; {time.monotonic() - begin:.0f} s.",
            "",
            table(campaign.deaths),
            "",
            f"Parameters, optimizer state, metrics and digests of the examples of all {steps} steps are {result}.",
            "",
            "; ".join(f"{name} {value}" for name, value in machine().items()),
            "",
        ]
    )
    print(text)
    if arguments.write:
        write(arguments.write, processes, text)
    raise SystemExit(1 if different else 0)


def write(path: Path, heading: str, text: str) -> None:
    """Replace the part of the page under `heading`, or add it."""
    head = "# Runs that were killed\n\n" + " ".join((__doc__ or "").split("\n\n")[2].split()) + "\n\n"
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    kept = [f"## {part.strip()}\n" for part in parts if not part.startswith(f"{heading}\n")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "\n".join(sorted([*kept, text], reverse=True)))


if __name__ == "__main__":
    main()
