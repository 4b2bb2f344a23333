"""The most memory of a run that begins and of one that goes on: resuming holds one state, not two.

    python -m experiments.campaigns.resuming [--layers 13] [--write docs/resuming.md]

Two lives of the real `lacuna train`, one after the other, of a BERT of 1,024 wide (13 layers have 200 M parameters, 2.4 GB
of state with AdamW's moments). Each starts, trains two steps on a short batch, saves when it is asked to stop, and ends:
the first begins from nothing, the second from the checkpoint of the first. The figures are the most that each process had
in memory (`ru_maxrss`), when its first step was done and in all. On CPUs the state lies in that memory; the allocator is
the run's own, glibc's malloc, which keeps what is freed (`keep_freed_memory` in `experiments/cli.py`).
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.forms import TextForm
from data.text.source import Text
from experiments.campaigns.runs import help_texts, here, how, leave
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import MaskedLM
from training.metrics import read_metrics
from training.optimizers import AdamW

LIMIT = 1.15
"""The peak of the second, as a multiple of the first's."""
STEPS = 2
"""Of each life."""
LONGEST = 3600.0


def resuming() -> Experiment:
    return Experiment(
        name="resuming",
        architecture="BertForMaskedLM",
        model=BertConfig(hidden_size=1024, num_hidden_layers=13, num_attention_heads=16, intermediate_size=4096),
        objective=MaskedLM(),
        data=Text(held_out=0.1, vocab_size=1000),
        optimizer=AdamW(learning_rate=1e-4, warmup_steps=5),
        batch_size=2,
        steps=1000,
        phases=(Phase(1.0, TextForm(16)),),
        evaluate_every=1000,
        checkpoint_every=1000,
    )


def live(arguments: list[str], folder: Path) -> tuple[int, int]:
    """A life of the run in `folder`: most bytes in memory when its first step was done, and in all."""
    before = len(read_metrics(folder / "metrics.jsonl"))
    process = subprocess.Popen([sys.executable, "-m", "experiments.cli", "train", *arguments, "--folder", str(folder)])
    deadline = time.monotonic() + LONGEST
    while len(read_metrics(folder / "metrics.jsonl")) < before + STEPS - 1:  # one is read a step late
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit("the run has ended before it was asked to, or does not train")
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 128 + signal.SIGTERM:
        raise SystemExit(f"the run ended with exit code {os.waitstatus_to_exitcode(status)}")
    first = read_metrics(folder / "metrics.jsonl")[before]["time"]
    return first["process_peak_bytes"], usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--write", type=Path, help="a Markdown file for the result")
    arguments, flags = parser.parse_known_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = ["--model.num-hidden-layers", str(arguments.layers)]
        run = [__file__, "--data.source", str(help_texts(folder / "texts", 60)), *layers, *flags]
        fresh, resumed = live(run, folder / "run"), live(run, folder / "run")
    ratios = [after / before for before, after in zip(fresh, resumed, strict=True)]
    rows = [
        f"| {what} | {fresh[i] / 1e9:.2f} | {resumed[i] / 1e9:.2f} | {ratios[i]:.2f} |"
        for i, what in enumerate(("when the first step is done", "in all"))
    ]
    lines = ["# Memory of a run that goes on", "", how(__doc__), ""]
    lines += [f"`python -m experiments.campaigns.resuming --layers {arguments.layers}`", ""]
    lines += ["| most in memory, GB | begins | goes on | ratio |", "|---|--:|--:|--:|", *rows, "", here(), ""]
    leave("\n".join(lines), arguments.write)
    raise SystemExit(1 if max(ratios) > LIMIT else 0)


if __name__ == "__main__":
    main()
