"""Kills a run again and again until it is done, and holds what came of it against one that nobody disturbed.

    python -m experiments.benchmarks.crashes [--kills 50] [--processes 2] [--platform cuda] [--seed 0] [--write docs/crashes.md]
    python -m experiments.benchmarks.crashes --kills 0      deaths between the last step and the end alone (20)
    python -m experiments.benchmarks.crashes --experiment FILE:NAME      of another run than that of a very small BERT

Each life of the run is the real `lacuna train`, in a process of its own (forked from one that has imported everything and
computed nothing, so that a start costs a second or two). It is ended by `kill -9` or SIGTERM at a moment drawn from the
seed: while it starts, while it trains, or while a checkpoint is being written. After each, no file may be broken. In the
end parameters, optimizer state, the numbers of every step and the digests of its examples are compared to the bit, and so
are the model, the report and the result, but for what is said of times. Then another run dies `--after-last-step` times
between its last step and its end: while the last checkpoint, the model, the report or the result is being written.
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
import shutil
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
from safetensors import SafetensorError, safe_open

from data.text.source import Text
from experiments import cli
from experiments.commands.train import machine
from experiments.experiment import Experiment, Phase, load
from models.bert import BertConfig
from objectives import MaskedLM, NextSentence, Sum
from training.checkpoints import Checkpoints
from training.metrics import read_metrics
from training.optimizers import AdamW

PHASES = ("start-up", "training", "writing")
LAST = ("checkpoint", "model", "report", "result")
"""What is not there yet when a run dies after its last step."""
WEIGHTS = (0.15, 0.25, 0.6)
LAST_PARTS = {"model": (".model.writing", "model/.writing", "model"), "report": ("report.html",)}
"""What changes in the folder while a part of the end is written."""
TIMES = ("seconds", "peak_flops", "peak_source")
"""Entries of a result that are measured anew by each life."""
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


LATE = ("Between the last step and the end, by what was not there yet when it died:",)


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

    def kill_after_last_step(self, last: int, window: float) -> bool:
        """Start a run that is near its end, and end it between step `last`, its last, and the end; `False` where that came
        first.

        Args:
            window: seconds that a run takes from its last checkpoint to its end.
        """
        number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        moment, delay = self.rng.choice(("time", "checkpoint", "model", "report")), self.rng.random()
        parts = [self.folder / name for name in LAST_PARTS.get(moment, ())]
        ages, unfinished = [*map(_age, parts)], self._unfinished()
        whole = self.folder / "checkpoints.sums" / f"{last}.json"
        events = set(self.folder.glob("tensorboard/*"))
        lives = self.start()
        begin = time.monotonic()
        while lives[0].is_alive():
            saved = whole.exists() and bool(set(self.folder.glob("tensorboard/*")) - events)
            if moment == "checkpoint" and self._step() == last and (saved or self._unfinished() - unfinished):
                break
            if saved and moment == "time":
                time.sleep(delay * window)
                break
            if saved and [*map(_age, parts)] != ages:
                time.sleep(0.05 * delay)
                break
            if time.monotonic() - begin > LONGEST:
                raise CrashError(f"a life of {LONGEST:.0f} s has not come to its end")
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.rng.choice(lives).pid, number)
        self._join(lives, [0, -number, 128 + number] if self.processes == 1 else None)
        if all(life.exitcode == 0 for life in lives):
            return False
        there = [whole.exists(), *((self.folder / name).exists() for name in ("model", "report.html"))]
        self.deaths[signal.Signals(number).name, LAST[next((i for i, x in enumerate(there) if not x), 3)]] += 1
        broken = self.broken()
        if broken:
            raise CrashError(f"after {signal.Signals(number).name} behind the last step: {broken}")
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
        report = self.folder / "report.html"
        if report.exists() and not report.read_text().endswith("</html>"):
            return f"{report} is cut off"
        try:
            for path in (self.folder / "model").glob("*.safetensors"):
                with safe_open(path, framework="numpy") as tensors:
                    [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 - it is no mapping
        except SafetensorError as error:
            return f"{path}: {error}"
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


def end_differences(one: Path, other: Path) -> list[str]:
    """What of the model, the report and the result of two finished runs differs, but for what is said of times."""
    found, ends = [], []
    for folder in (one, other):
        model = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("model/**/*") if path.is_file()
        }
        result = json.loads((folder / "result.json").read_text())
        page = (folder / "report.html").read_text().replace(str(folder), "")
        ends.append(
            {
                **model,
                "result.json": {name: value for name, value in result.items() if name not in TIMES},
                "report.html": re.sub("<h2>The run</h2>.*?<details>", "", page, flags=re.DOTALL),
            }
        )
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        found += [f"{name} was left behind in {folder}" for name in left]
    names = sorted({*ends[0], *ends[1]})
    return found + [name for name in names if ends[0].get(name) != ends[1].get(name)]


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


def near_the_end(finished: Path, folder: Path) -> int:
    """Make `folder` what a finished run was before its last checkpoint; returns the step of that."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)
    last = Checkpoints(folder / "checkpoints").steps()[-1]
    shutil.rmtree(folder / "checkpoints" / str(last))
    shutil.rmtree(folder / "model")
    for name in (f"checkpoints.sums/{last}.json", "report.html", "result.json"):
        (folder / name).unlink()
    return last


def die_after_last_step(whole: Campaign, campaign: Campaign, kills: int) -> list[str]:
    """Have a run die `kills` times between its last step and its end; what is different when it is done in the end.

    A life goes on from where the one before died, or from before the last checkpoint. A run is brought to its end and
    compared before it begins again from there.
    """
    different, done, missed = [], True, 0
    result, window = whole.folder / "result.json", 0.0
    while campaign.deaths.total() < kills:
        if done or campaign.rng.random() < 0.3:
            if not done:
                campaign.undisturbed()
                different += _all_differences(whole, campaign)
            last = near_the_end(whole.folder, campaign.folder)
            window = result.stat().st_mtime - (whole.folder / f"checkpoints.sums/{last}.json").stat().st_mtime
        done = not campaign.kill_after_last_step(last, window)
        missed += done
        if missed > kills + 5:
            raise CrashError(f"the run was done {missed} times before it could be ended")
        print(f"{campaign.deaths.total()} of {kills} after the last step", file=sys.stderr, flush=True)
    campaign.undisturbed()
    return different + _all_differences(whole, campaign)


def _all_differences(whole: Campaign, campaign: Campaign) -> list[str]:
    different = [*differences(whole.folder, campaign.folder), *filter(None, [campaign.broken()])]
    if campaign._unfinished():
        different.append(f"left behind: {campaign._unfinished()}")
    return different + end_differences(whole.folder, campaign.folder)


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


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


def table(deaths: collections.Counter, phases: Sequence[str] = PHASES) -> str:
    """Markdown: deaths by signal and phase."""
    signals = sorted({"SIGKILL", "SIGTERM"} | {name for name, _ in deaths}, key=lambda name: (name != "SIGKILL", name))
    rows = ["| | " + " | ".join(phases) + " | all |", "|---|" + "--:|" * (len(phases) + 1)]
    for name in signals:
        counts = [deaths[name, phase] for phase in phases]
        rows.append(f"| {name} | " + " | ".join(map(str, [*counts, sum(counts)])) + " |")
    counts = [sum(deaths[name, phase] for name in signals) for phase in phases]
    return "\n".join([*rows, "| all | " + " | ".join(map(str, [*counts, sum(counts)])) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--after-last-step", type=int, default=20, help="as many deaths between the last step and the end"
    )
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
        different = _all_differences(whole, campaign)
        late = Campaign(flags, folder / "late", arguments.processes, arguments.seed)
        if arguments.after_last_step:
            different += die_after_last_step(whole, late, arguments.after_last_step)
    result = "not equal: " + "; ".join(different) if different else "equal to the bit"
    processes = f"{arguments.processes} processes" if arguments.processes > 1 else "One process"
    options = ("processes", "kills", "after_last_step", "platform", "experiment")
    asked = {name: getattr(arguments, name) for name in options}
    unusual = [
        f"--{name.replace('_', '-')} {value}" for name, value in asked.items() if value != parser.get_default(name)
    ]
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
            *([table(campaign.deaths), ""] if arguments.kills else []),
            *([*LATE, "", table(late.deaths, LAST), ""] if arguments.after_last_step else []),
            f"Parameters, optimizer state, metrics and digests of the examples of all {steps} steps, the model, the report and"
            f" the result are {result}.",
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
