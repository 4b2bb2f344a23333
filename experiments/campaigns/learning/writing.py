"""Docs/learning-writing.md: what the small models write, beside texts that take no model.

    python -m experiments.campaigns.learning.writing FILE[:variant]… [--runs FOLDER] [--write]

Each recipe is trained in FOLDER/NAME where it is not done, and its last state writes; the material that its docstring names lies
in the folder where this is called. The baselines are scored on the same examples: of summaries the first sentence, and the first
words, as many as a summary has in the mean; of translations the text itself, and each of its words in the translation that goes
with it most often.
"""

import argparse
import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentencex import segment

from evaluation.bootstrap import interval
from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import evaluators
from experiments.assembly.written import Writer
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import core_minutes, trained
from experiments.experiment import Experiment, load
from inference.tasks.summarization import Summarization

PAGE = DOCS / "learning-writing.md"
LAST = ("--evaluate-every", "1000000")
"""Evaluate the last state alone."""
Texts = Sequence[str]


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def dictionary(sources: Texts, targets: Texts) -> dict[str, str]:
    """For each word of the sources the word of the targets of the highest Dice coefficient, by the pairs that hold both."""
    both: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    there: collections.Counter = collections.Counter()
    here: collections.Counter = collections.Counter()
    for source, target in zip(sources, targets, strict=True):
        left, right = ({*words(text.lower())} for text in (source, target))
        here.update(left)
        there.update(right)
        for word in left:
            both[word].update(right)
    return {
        word: max(found, key=lambda other: 2 * found[other] / (here[word] + there[other]))
        for word, found in both.items()
    }


def baselines(writer: Writer, sources: Texts) -> dict[str, list[str]]:
    """{what it is: what it writes from each source}."""
    data = writer.assembly.data
    before, after = data.texts(data.training_items)
    if isinstance(writer.evaluation.task, Summarization):
        count = round(float(np.mean([len(text.split()) for text in after])))
        return {
            "the first sentence": [next(iter(segment("en", text))).strip() for text in sources],
            f"the first {count} words": [" ".join(text.split()[:count]) for text in sources],
        }
    known = dictionary(before, after)
    return {
        "the text itself": list(sources),
        "word for word": [" ".join(known.get(word, word) for word in words(text.lower())) for text in sources],
    }


def rows(reference: str, experiment: Experiment, result: Mapping[str, Any]) -> list[list[str]]:
    """Lines of the table: the model's, and the baselines'."""
    assembly = assemble(experiment)
    (writer,) = (one for one in evaluators(assembly, lambda message: None) if isinstance(one, Writer))
    scored = result["evaluations"][writer.name]
    about = [f"{result['parameters']:,}", f"{result['steps']:,}", f"{core_minutes(experiment.run_folder):.1f}"]
    found = [[f"`{reference}`", *about, cells(scored, scored["intervals"])]]
    sources, right = writer.examples()
    for name, texts in baselines(writer, sources).items():
        figures, intervals = {}, {}
        for metric in writer.metrics:
            state = metric.rows(texts, right)
            figures |= metric.compute(state)
            intervals |= interval(metric.compute, state)
        found.append([name, "", "", "", cells(figures, intervals)])
    return found


def cells(figures: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> str:
    """Each figure with its interval."""
    return ", ".join(f"{name} {figures[name]:.1f} ({low:.1f}–{high:.1f})" for name, (low, high) in intervals.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="such as experiments/bart/summarise.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-writing"), help="where the runs lie")
    parser.add_argument("--flags", nargs="*", default=[], help="of lacuna train, such as steps=1000")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-writing.md")
    arguments = parser.parse_args()
    lines, machine = [], ""
    for reference in arguments.recipes:
        folder = arguments.runs / load(reference).name
        result = trained(reference, folder, [*LAST, *(f"--{flag}" for flag in arguments.flags)])
        lines += rows(reference, dataclasses.replace(load(reference), folder=str(folder)), result)
        machine = "{processor}, {cores} cores, JAX {jax}".format(**result["machine"])
    head = ["", "parameters", "steps", "core-minutes", "scores, 95 % interval"]
    text = f"{markdown(head, lines)}\nMeasured on {machine}.\n"
    print(text)
    if arguments.write:
        fill(PAGE, writing=text)


if __name__ == "__main__":
    main()
