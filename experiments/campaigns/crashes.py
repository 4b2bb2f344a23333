"""Kills a run again and again until it is done, and holds what came of it against one that nobody disturbed.

    python -m experiments.campaigns.crashes [--kills 50] [--processes 2] [--platform cuda] [--seed 0] [--write docs/crashes.md]
    python -m experiments.campaigns.crashes --kills 0      deaths between the last step and the end alone (20)
    python -m experiments.campaigns.crashes --experiment FILE:NAME      of another run than that of a very small BERT

Each life of the run is the real `lacuna train`, in a process of its own (forked from one that has imported everything and
computed nothing, so that a start costs a second or two). It is ended by `kill -9` or SIGTERM at a moment drawn from the
seed: while it starts, while it trains, or while a checkpoint is being written. After each, no file may be broken. In the
end parameters, optimizer state, the numbers of every step and the digests of its examples are compared to the bit, and so
are the model, the report and the result, but for the times. Then another run dies `--after-last-step` times
between its last step and its end: while the last checkpoint, the model, the report or the result is being written.
With `--processes` several processes train together; one of them is ended, and the others have to end by themselves.
"""

import argparse
import collections
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from data.forms import TextForm
from data.text.source import Text
from experiments.campaigns.equality import differences, end_differences
from experiments.campaigns.lives import LAST, PHASES, Campaign, CrashError
from experiments.campaigns.runs import help_texts, here, how
from experiments.experiment import Experiment, Phase, load
from models.bert import BertConfig
from objectives import MaskedLM, NextSentence, Sum
from training.checkpoints import Checkpoints
from training.optimizers import AdamW

LATE = ("Between the last step and the end, by what was not there yet when it died:",)


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
        phases=(Phase(0.75, TextForm(16)), Phase(0.25, TextForm(32))),
        evaluate_every=40,
        evaluation_examples=16,
        checkpoint_every=3,
    )


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
    left = [f"left behind: {names}"] if (names := campaign._unfinished()) else []
    broken = filter(None, [campaign.broken()])
    folders = whole.folder, campaign.folder
    return [*differences(*folders), *broken, *left, *end_differences(*folders)]


def table(deaths: collections.Counter, phases: Sequence[str] = PHASES) -> str:
    """Markdown: deaths by signal and phase."""
    signals = sorted({"SIGKILL", "SIGTERM"} | {name for name, _ in deaths}, key=lambda name: (name != "SIGKILL", name))
    lines = {name: [deaths[name, phase] for phase in phases] for name in signals}
    lines["all"] = [sum(column) for column in zip(*lines.values(), strict=True)]
    rows = ["| | " + " | ".join(phases) + " | all |", "|---|" + "--:|" * (len(phases) + 1)]
    rows += [f"| {name} | {' | '.join(map(str, [*counts, sum(counts)]))} |" for name, counts in lines.items()]
    return "\n".join(rows)


def options() -> argparse.ArgumentParser:
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
    return parser


def main() -> None:
    parser = options()
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = arguments.platform
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("LACUNA_CACHE", str(folder / "cache"))
        texts = help_texts(folder / "texts", 60)
        steps = (10 if arguments.processes == 1 else 4) * arguments.kills + 20
        source = ["--data.source", str(texts)] if arguments.experiment == __file__ else []
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
    names = ("processes", "kills", "after_last_step", "platform", "experiment")
    asked = {name: vars(arguments)[name] for name in names}
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
            here(),
            "",
        ]
    )
    print(text)
    if arguments.write:
        write(arguments.write, processes, text)
    raise SystemExit(1 if different else 0)


def write(path: Path, heading: str, text: str) -> None:
    """Replace the part of the page under `heading`, or add it."""
    head = "# Runs that were killed\n\n" + how(__doc__) + "\n\n"
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    kept = [f"## {part.strip()}\n" for part in parts if not part.startswith(f"{heading}\n")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "\n".join(sorted([*kept, text], reverse=True)))


if __name__ == "__main__":
    main()
