"""Docs/learning.md: what small models of one budget learn of real text, each objective held against what it must beat.

    make learning AUSTEN=FOLDER        all runs and the page; what is done already is taken (FOLDER: material/austen.py)

Each run is `lacuna train` of a small recipe, one core each, as many at a time as there are cores. Beside its own
baseline (`evaluation/baselines.py`) a causal model is held against n-gram models of the same tokens.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import queue
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from experiments.assembly.assemble import assemble
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import slug, trained
from experiments.experiment import load

PAGE = DOCS / "learning.md"
RUNS = {
    "GPT-2": "experiments/gpt2/pretrain.py",
    "BART": "experiments/bart/pretrain.py",
    "T5": "experiments/t5/pretrain.py",
    "BERT": "experiments/bert/pretrain.py:small",
    "ELECTRA": "experiments/electra/pretrain.py",
    "DistilBERT, alone": "experiments/distilbert/pretrain.py:alone",
    "DistilBERT, distilled": "experiments/distilbert/pretrain.py",
}
"""Name: recipe. The last learns from a BERT: `teacher`."""


def teacher(runs: Path, source: str, demo: Path) -> Path:
    """Whom DistilBERT learns from: on Wikipedia `make pretrain`'s model, for BERT needs more steps there than these."""
    return demo if source == "wikipedia" else runs / source / "bert" / "model"


def student_flags(source: str) -> list[str]:
    """What a DistilBERT needs to have its teacher's widths, which by default are those of `make pretrain`'s model."""
    if source == "wikipedia":
        return []
    return ["--model.hidden-dim", str(load(RUNS["BERT"]).model.intermediate_size)]


def train(reference: str, folder: Path, flags: list[str], cores: "queue.Queue[int]") -> None:
    """One run on one core, its output in `folder.log`."""
    core = cores.get()
    try:
        trained(reference, folder, flags, under=("taskset", "-c", str(core)))
        print(f"{folder}: done", flush=True)
    except subprocess.CalledProcessError:
        print(f"{folder}: failed, see {folder}.log", flush=True)
    finally:
        cores.put(core)


def grams(reference: str, source: str, seed_folder: Path) -> dict[str, float]:
    """Losses of n-gram models on the tokens that a causal recipe's held-out loss is about, in nats a token."""
    from evaluation.ngrams import KneserNey

    experiment = load(reference)
    data = dataclasses.replace(experiment.data, source=source)
    assembly = assemble(dataclasses.replace(experiment, data=data, folder=str(seed_folder)))
    corpus, losses = assembly.data.corpus, {}
    begins, ends = (corpus.sentence_offsets[corpus.document_offsets[assembly.data.training_items + n]] for n in (0, 1))
    framing = corpus.vocabulary.framing
    before, behind = framing.begin, framing.document_end(corpus.vocabulary.eos)
    # Documents one after the other, as they are packed.
    text = [np.concatenate([before, corpus.tokens[a:b], behind]) for a, b in zip(begins, ends, strict=True)]
    text = np.concatenate(text).astype(np.int64)
    rows = np.concatenate([batch["tokens"][0] for batch in assembly.evaluation_batches(share=(0, 1))])
    for name, order in (("unigram", 1), ("bigram", 2), ("Kneser–Ney 5-gram", 5)):
        model = KneserNey.fit(text, corpus.vocabulary.size, order)
        losses[name] = -float(model.log_probabilities(rows)[:, 1:].mean())
    return losses


def results(runs: Path, sources: dict[str, str]) -> dict[str, Any]:
    """What the runs that are done have left, and the n-gram models."""
    by_run: dict[str, Any] = {}
    for source in sources:
        for name in RUNS:
            file = runs / source / slug(name) / "result.json"
            if file.exists():
                by_run[f"{source} {name}"] = json.loads(file.read_text())
    return by_run


def table(results: dict[str, Any], source: str) -> str:
    head = ["", "parameters", "loss", "held out", "best constant", "accuracy", "most frequent", "asked", "minutes"]
    rows = []
    for name in RUNS:
        result = results.get(f"{source} {name}")
        if result is None:
            continue
        about = [name, f"{result['parameters']:,}"], [f"{result['seconds'] / 60:.1f}"]
        for loss, base in result["baselines"].items():
            accuracy = f"{result['held_out'][base['metric']]:.1%}" if base["metric"] else ""
            losses = f"{result['held_out'][loss]:.3f}", f"{base['loss']:.3f}"
            cells = f"`{loss}`", *losses, accuracy, f"{base['accuracy']:.1%}", f"{base['count']:,}"
            rows.append([*about[0], *cells, *about[1]])
            about = ["", ""], [""]
    return markdown(head, rows)


def grams_table(results: dict[str, Any], measured: dict[str, dict[str, float]]) -> str:
    rows = []
    for source, losses in measured.items():
        result = results.get(f"{source} GPT-2")
        ours = "" if result is None else f"{result['held_out']['causal_lm_loss']:.3f}"
        rows.append([source, *(f"{loss:.3f}" for loss in losses.values()), ours])
    return markdown(["nats a token", *next(iter(measured.values())), "GPT-2"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--austen", type=Path, help="the folder that experiments.material.austen filled")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"), help="where the runs lie")
    parser.add_argument("--demo", type=Path, default=Path("runs/bert-demo/model"), help="what `make pretrain` left")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    parser.add_argument("--write", action="store_true", help="fill docs/learning.md")
    arguments = parser.parse_args()
    sources = {"wikipedia": "wikipedia_dump"}
    if arguments.austen is not None:
        sources["austen"] = str(arguments.austen.resolve())
    available = sorted(os.sched_getaffinity(0))
    cores: queue.Queue[int] = queue.Queue()
    for core in available:
        cores.put(core)
    for distilled in (False, True):
        with concurrent.futures.ThreadPoolExecutor(len(available)) as pool:
            for source, where in sources.items():
                for name in arguments.only:
                    if name.endswith("distilled") != distilled:
                        continue
                    flags = ["--data.source", where]
                    if name.startswith("DistilBERT"):
                        flags += student_flags(source)
                    if distilled:
                        flags += ["--teacher", str(teacher(arguments.runs, source, arguments.demo))]
                    pool.submit(train, RUNS[name], arguments.runs / source / slug(name), flags, cores)
    if arguments.write:
        done = results(arguments.runs, sources)
        measured = {
            source: grams(RUNS["GPT-2"], where, arguments.runs / source / "n-grams")
            for source, where in sources.items()
        }
        machine = next(iter(done.values()))["machine"]
        fill(
            PAGE,
            **{source: table(done, source) for source in sources},
            grams=grams_table(done, measured),
            machine=f"{machine['processor']}, one core a run, JAX {machine['jax']}.\n",
        )


if __name__ == "__main__":
    main()
