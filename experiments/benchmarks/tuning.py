"""Fine-tuning on padded real texts on this CPU beside the same with `transformers` on PyTorch, both in float32.

    python -m experiments.benchmarks.tuning [--material FOLDER] [--parity-python PATH] [--rounds N] [--write]

The models, lengths and batches of the small recipes for mails and for Brown's tags (6 layers × 384, as MiniLM-L6). FOLDER has
the folders `mails` and `tags` that these want; without it the texts are paragraphs and sentences of Python's documentation,
which comes with Python. Ours pads to the buckets of the recipe, `transformers` each of the very same batches to its longest
text. AdamW with gradients clipped to norm 1, dropout; each side a process that keeps freed memory, in turn. The last line is
JSON.
"""

import argparse
import dataclasses
import itertools
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.benchmarks.pages import fill, markdown, summary
from experiments.benchmarks.steps import DEFAULT, PAGE, TORCH, Contestant, processor
from experiments.benchmarks.works import TuningWork

RECIPES = {"mails": "experiments/bert/classify.py:mails", "tags": "experiments/bert/tag.py:brown"}


def documentation(folder: Path) -> None:
    """Write `mails` and `tags` of Python's documentation: paragraphs of two classes, and words labelled by their characters."""
    from pydoc_data.topics import topics

    sentences = []
    for topic, text in sorted(topics.items()):
        place = folder / "mails" / ("ham" if topic[0] < "e" else "spam")
        place.mkdir(parents=True, exist_ok=True)
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
            if words := paragraph.split():
                (place / f"{topic}-{number}.txt").write_text(" ".join(words), encoding="utf-8")
        for sentence in re.split(r"(?<=[.:])\s+", text):
            if words := re.findall(r"\w+|[^\w\s]", sentence):
                labels = ["word" if word.isalpha() else "number" if word[0].isdigit() else "sign" for word in words]
                sentences.append(json.dumps({"words": words, "labels": labels}))
    (folder / "tags").mkdir()
    (folder / "tags" / "train.jsonl").write_text("\n".join(sentences), encoding="utf-8")


def prepared(name: str, material: Path, place: Path, batches: int) -> tuple[TuningWork, Assembly]:
    """A recipe's first batches, written to a folder, and what they are of."""
    work = TuningWork(
        architecture="", model_type="bert", config={}, objective="Classification", batch=0, reference=RECIPES[name],
        settings={"source": str(material / name), "cache": str(place.parent / "cache")}, folder=str(place), batches=batches,
    )  # fmt: skip
    assembly = assemble(work.recipe())
    experiment, config = assembly.experiment, assembly.experiment.model.to_json()
    work = dataclasses.replace(
        work, architecture=experiment.architecture, batch=experiment.batch_size,
        config={name: config[name] for name in config if name not in ("architectures", "model_type")},
    )  # fmt: skip
    place.mkdir()
    rows = [
        {name: x[0] for name, x in batch.items() if name != "index"}
        for batch in itertools.islice(assembly.batches(0, 0), batches)
    ]
    work.save(rows, np)
    return work, assembly


def padding(assembly: Assembly) -> tuple[float, float]:
    """What part of the places of an epoch's batches is padding, and what it were if each was as long as its longest text."""
    examples, batch = assembly.data.training(assembly.form(0), assembly.experiment.seed), assembly.experiment.batch_size
    used = places = longest = 0
    for begin in range(0, len(examples) - batch + 1, batch):
        items = examples.items(np.arange(begin, begin + batch))
        sizes = np.minimum(examples.sizes[items], examples.form.length)
        used += sizes.sum()
        places += batch * examples.buckets.holding(items)[0]
        longest += batch * sizes.max()
    return 1 - used / places, 1 - used / longest


def measured(work: TuningWork, python: str, rounds: int) -> list[Contestant]:
    """Ours and the other side, each with its times of a step."""
    sides = [
        Contestant(name, work.folder, of, keep=True).ready()
        for name, of in ((DEFAULT, sys.executable), (TORCH, python))
    ]
    for _ in range(rounds):
        for contestant in sides:
            contestant.go(1)
    for contestant in sides:
        contestant.end()
    return sides


def figures(work: TuningWork, assembly: Assembly, sides: list[Contestant]) -> dict[str, Any]:
    ours, torch = sides
    wasted, least = padding(assembly)
    masks = [batch["attention_mask"] for batch in work.batches_of_theirs(np)]
    tokens = int(sum(mask.sum() for mask in masks))
    return dict(
        tokens=tokens,
        ours=tokens / ours.seconds,
        torch=tokens / torch.seconds,
        ratio=torch.seconds / ours.seconds,
        padding=wasted,
        padding_to_the_longest=least,
        ranges={side.name: [tokens / max(side.times), tokens / min(side.times)] for side in sides},
        lengths=[int(length) for (length,) in assembly.data.training(assembly.form(0), 0).buckets.lengths],
    )


def table(results: dict[str, dict[str, Any]]) -> str:
    head = [
        "recipe",
        "lengths",
        "padding",
        "to the longest",
        "Lacuna, tokens/s",
        "`transformers` on torch",
        "times as fast",
    ]
    rows = []
    for name, result in results.items():
        spans = ["{:,.0f}–{:,.0f}".format(*span) for span in result["ranges"].values()]
        rows.append(
            [
                f"`{RECIPES[name]}`",
                " ".join(map(str, result["lengths"])),
                f"{result['padding']:.1%}",
                f"{result['padding_to_the_longest']:.1%}",
                f"{result['ours']:,.0f} ({spans[0]})",
                f"{result['torch']:,.0f} ({spans[1]})",
                f"{result['ratio']:.2f}",
            ]
        )
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, help="folder of `mails` and `tags`")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--parity-python", default=sys.executable, help="interpreter with transformers 5 and torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="batches of a round")
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    found, results = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        material = arguments.material or Path(folder) / "documentation"
        if arguments.material is None:
            material.mkdir()
            documentation(material)
        for name in arguments.recipes:
            work, assembly = prepared(name, material, Path(folder) / name, arguments.steps)
            found[name] = measured(work, arguments.parity_python, arguments.rounds)
            results[name] = figures(work, assembly, found[name])
            print(name, results[name], flush=True)
    versions = {
        package: version for sides in found.values() for side in sides for package, version in side.versions.items()
    }
    said = (
        f"{processor()}; median (least–most) of {arguments.rounds} rounds of {arguments.steps} batches, in turn."
        f" {', '.join(f'{package} {version}' for package, version in versions.items())}.\n"
    )
    print(table(results), said, sep="\n")
    if arguments.write:
        fill(PAGE, **{"tuning": table(results), "tuning machine": said})
    summary("tuning", processor=processor(), results=results)


if __name__ == "__main__":
    main()
