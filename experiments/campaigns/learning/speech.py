"""Docs/learning-speech.md: what a small Wav2Vec2 learns of speech, whether its codebooks collapse, and what that is worth.

    make learning-speech SPEECH=FOLDER                                        all runs and the page
    python -m experiments.campaigns.learning.speech FOLDER --only pretraining words --seeds 0 --write

FOLDER is what `experiments.material.asterisk` writes. Each run is `lacuna train` of a recipe of experiments/wav2vec2, one after
the other, each from a seed of its own; what is done already is taken. `taskset -c 0 make …` keeps all of it on one core.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.audio.source import PreparedAudio
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.learning.speech_probe import at_random, opened, probed, probed_bands
from experiments.campaigns.learning.spoken_words import accuracy, waveforms
from experiments.campaigns.runs import core_minutes, here, trained
from experiments.experiment import load
from inference.pipeline import pipeline
from models import hub
from models.model import Model

PAGE, PICTURE = DOCS / "learning-speech.md", DOCS / "wav2vec2-pretraining.svg"
PRETRAIN, KEYWORDS, CTC = (f"experiments/wav2vec2/{name}.py" for name in ("pretrain", "keywords", "ctc"))
LAST = ("--data.held-out-split", "test", "--evaluate-every", "1000000")
"""Score the last state alone, on recordings on which nothing was chosen."""
NO_WEIGHT = 1e-6
"""Of the diversity loss, where it is to do nothing, and still to say what the perplexity is."""
COLLAPSES = {"no diversity loss": ("--objective.diversity-loss-weight", str(NO_WEIGHT))}
"""What is changed: how."""
COLLAPSE_STEPS = 600
SETTLED = 50
"""Steps before those that a perplexity is the least of: the first ones have that of random parameters."""


def lines(folder: Path, split: str) -> list[dict[str, float]]:
    """What a run measured on a split, by step."""
    with open(folder / "metrics.jsonl") as file:
        return [line for line in map(json.loads, file) if line["split"] == split]


def perplexity(line: Mapping[str, float]) -> float:
    """How many codes are in use: the diversity loss is α (GV - perplexity) / GV."""
    objective = load(PRETRAIN).objective
    count = objective.groups * objective.codes
    return count * (1 - line["diversity_loss"] / objective.diversity_loss_weight)


def guessing(frames: int, negatives: int, draws: int = 2_000) -> float:
    """How often a guess is right where so many frames are masked: distractors are drawn with replacement, so that of
    `negatives` some are the same, and one of those that differ is chosen."""
    drawn = np.random.default_rng(0).integers(frames - 1, size=(draws, negatives))
    return float(np.mean([1 / (1 + len(np.unique(row))) for row in drawn]))


@dataclasses.dataclass(frozen=True)
class Campaign:
    """What is trained on, with which seeds, and where the runs lie."""

    material: Path
    runs: Path
    seeds: Sequence[int] = (0, 1, 2)

    def run(self, name: str, reference: str, *flags: str) -> Path:
        """The folder of a run, which is done first where it is not."""
        folder = self.runs / name
        if not (folder / "result.json").exists():
            trained(reference, folder, flags)
        return folder

    def pretrained(self, seed: int) -> Path:
        """The folder of a pretraining."""
        return self.run(f"pretrain-{seed}", PRETRAIN, *self.sentences, "--seed", str(seed))

    @property
    def sentences(self) -> tuple[str, str]:
        return "--data.source", str(self.material / "sentences")


def pretraining(campaign: Campaign) -> dict[str, str]:
    """Tables of pretraining, and of what collapses; the curves of both in `PICTURE`."""
    folders = {f"seed {seed}": campaign.pretrained(seed) for seed in campaign.seeds}
    for name, changes in COLLAPSES.items():
        flags = ("--steps", str(COLLAPSE_STEPS), "--evaluate-every", str(COLLAPSE_STEPS), *changes)
        folders[name] = campaign.run(f"collapse-{name.replace(' ', '-')}", PRETRAIN, *campaign.sentences, *flags)
    curves = {name: lines(folder, "train") for name, folder in folders.items()}
    for line in itertools.chain.from_iterable(curves[name] for name in COLLAPSES):
        line["diversity_loss"] *= load(PRETRAIN).objective.diversity_loss_weight / NO_WEIGHT
    rows = []
    for name, folder in folders.items():
        last = lines(folder, "held_out")[-1]
        codes = [perplexity(line) for line in curves[name][SETTLED:]]
        measured = f"{last['contrastive_loss']:.2f}", f"{last['contrastive_accuracy']:.1%}"
        rows.append([name, str(last["step"]), f"{min(codes):.0f}", f"{codes[-1]:.0f}", *measured])
        rows[-1].append(f"{core_minutes(folder):.1f}")
    head = [
        "",
        "steps",
        f"least perplexity from step {SETTLED} on",
        "last",
        "contrastive loss, held out",
        "accuracy, held out",
        "core-minutes",
    ]
    draw(curves, PICTURE)
    return {"pretraining": markdown(head, rows)}


def words(campaign: Campaign) -> dict[str, str]:
    """Words of the prompts: probes of the pretrained networks, and networks that are trained on them."""
    source = str(campaign.material / "words")
    sides = [opened(source, split) for split in ("validation", "test")]
    by_way: dict[str, list[Sequence[float]]] = {"log-mel bands, logistic regression": [bands(sides)]}
    for seed in campaign.seeds:
        start = campaign.pretrained(seed) / "model"
        model, variables = hub.load(start)
        by_way.setdefault("random parameters, frozen", []).append(frozen(sides, model, at_random(model, seed)))
        by_way.setdefault("pretrained, frozen", []).append(frozen(sides, model, variables))
        flags = (f"{KEYWORDS}:prompts", "--data.source", source, *LAST, "--seed", str(seed))
        folder = campaign.run(f"words-scratch-{seed}", *flags)
        by_way.setdefault("random parameters, trained whole", []).append(asked(sides, folder / "model"))
        folder = campaign.run(f"words-tuned-{seed}", *flags, "--initial-model", str(start))
        by_way.setdefault("pretrained, trained whole", []).append(asked(sides, folder / "model"))
    counts = [len(side.held_out_items) for side in sides]
    head = ["right", f"of other sentences ({counts[0]})", "each seed", f"alone ({counts[1]})", "each seed"]
    rows = [
        [name, *(cell for one in zip(*scores, strict=True) for cell in cells(one))] for name, scores in by_way.items()
    ]
    return {"words": markdown(head, rows)}


def bands(sides: Sequence[PreparedAudio]) -> list[float]:
    """Accuracies of lines through log-mel bands."""
    return held_out(probed_bands(sides))


def frozen(sides: Sequence[PreparedAudio], model: Model, variables: Any) -> list[float]:
    """Accuracies of lines through the frames of a network."""
    return held_out(probed(sides, model, variables))


def held_out(figures: Mapping[str, float]) -> list[float]:
    """The accuracies of a probe on each side."""
    return [value for name, value in figures.items() if name.startswith("held out")]


def asked(sides: Sequence[PreparedAudio], folder: Path) -> list[float]:
    """Accuracies of a classifier."""
    ask, scores = pipeline("audio-classification", folder), []
    for side in sides:
        answers = [answer[0]["label"] for answer in ask(list(waveforms(side, side.held_out_items)))]
        labels = [side.vocabulary.labels[label] for label in side.targets[side.held_out_items]]
        scores.append(float(np.mean([one == other for one, other in zip(answers, labels, strict=True)])))
    return scores


def spoken(campaign: Campaign) -> dict[str, str]:
    """Synthesised words and sentences, from scratch."""
    by_way = {"words: log-mel bands, logistic regression": [accuracy("spoken_words")]}
    for seed in campaign.seeds:
        folder = campaign.run(f"spoken-words-{seed}", KEYWORDS, "--seed", str(seed))
        by_way.setdefault("words: Wav2Vec2 from scratch", []).append(result(folder)["held_out"]["accuracy"])
    folder = campaign.run("spoken-ctc", CTC)
    trained_on, held_out = (lines(folder, split)[-1] for split in ("train", "held_out"))
    figures = f"{held_out['wer']:.1f} %", f"{held_out['cer']:.1f} %", f"{trained_on['ctc_loss']:.3f}"
    rows = [["Wav2Vec2 from scratch", str(held_out["step"]), *figures, f"{core_minutes(folder):.1f}"]]
    head = ["", "steps", "WER, held out", "CER, held out", "last training loss", "core-minutes"]
    table = markdown(
        ["240 held-out recordings", "right", "each seed"], [[name, *cells(scores)] for name, scores in by_way.items()]
    )
    return {"spoken": f"{table}\n{markdown(head, rows)}"}


def cells(scores: Sequence[float]) -> list[str]:
    """The mean of some accuracies, and each."""
    return [f"{np.mean(scores):.1%}", ", ".join(f"{score:.1%}" for score in scores)]


def result(folder: Path) -> dict[str, Any]:
    """What a run left."""
    return json.loads((folder / "result.json").read_text())


def draw(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Perplexity, accuracy and loss over the steps, of several runs, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    objective = load(PRETRAIN).objective
    count = objective.groups * objective.codes
    panels = {
        f"perplexity of the codebooks (of {count})": (perplexity, count / 3, "a third"),
        "contrastive accuracy": (lambda line: line["contrastive_accuracy"], guessing(36, 50), "guessing"),
        "contrastive loss (nats)": (lambda line: line["contrastive_loss"], None, ""),
    }
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lacuna", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
        for panel, (title, (value, floor, about)) in zip(axes, panels.items(), strict=True):
            for name, train in curves.items():
                steps, values = np.array([(line["step"], value(line)) for line in train]).T
                width = max(1, len(values) // 50)
                smooth = np.convolve(values, np.ones(width) / width, mode="valid")
                thin = slice(None, None, max(1, len(smooth) // 200))
                panel.plot(steps[width - 1 :][thin], smooth[thin], linewidth=1, label=name)
            if floor is not None:
                panel.axhline(floor, color="#57606a", linestyle="--", linewidth=0.8, label=about)
            panel.set(xlabel="step", title=title)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            panel.legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


PARTS = {"pretraining": pretraining, "words": words, "spoken": spoken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("material", type=Path, help="the folder that experiments.material.asterisk filled")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-speech"), help="where the runs lie")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), help="parts of the page")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-speech.md")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.material.resolve(), arguments.runs, arguments.seeds)
    tables = {}
    for name in arguments.only:
        tables |= PARTS[name](campaign)
        print(tables[name], flush=True)
    if arguments.write:
        fill(PAGE, **tables, machine=f"{here()}.\n")


if __name__ == "__main__":
    main()
