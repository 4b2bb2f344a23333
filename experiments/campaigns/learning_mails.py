"""Docs/learning-mails.md: a text classifier from a published checkpoint and from scratch, beside a bag of words.

    make learning-mails MAILS=FOLDER MINILM=FOLDER       both runs and the page

MAILS is the folder of `experiments.material.mails`, MINILM the published checkpoint of MiniLM-L6-H384. Each run is `lacuna
train` of `experiments/bert/classify.py`; what is done already is taken.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.text.corpus import Corpus
from evaluation.bootstrap import interval
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import trained
from experiments.experiment import load

PAGE = DOCS / "learning-mails.md"
RECIPE = "experiments/bert/classify.py"


def decoded(prepared: Any, items: np.ndarray) -> list[str]:
    """The whole texts, as the tokenizer of the run writes them back."""
    corpus: Corpus = prepared.corpus
    spans = zip(*corpus.spans(items), strict=True)
    return [prepared.tokenizer.decode(corpus.tokens[begin:end].tolist()) for begin, end in spans]


def bag_of_words(prepared: Any) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Figures and their intervals on the held-out texts, of logistic regression on the words of the training texts.

    A word's weight in a text is (1 + log count) · inverse document frequency; the regularisation is the best of three by
    cross-validation on the training texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    training, held_out = prepared.training_items, prepared.held_out_items
    words = TfidfVectorizer(sublinear_tf=True)
    model = GridSearchCV(LogisticRegression(max_iter=2_000), {"C": [1, 10, 100]}, cv=5).fit(
        words.fit_transform(decoded(prepared, training)), prepared.labels[training]
    )
    guesses, labels = model.predict(words.transform(decoded(prepared, held_out))), prepared.labels[held_out]
    rows = {"guesses": guesses, "labels": labels, "right": guesses == labels, "asked": np.ones(len(labels))}

    def figures(rows: Mapping[str, np.ndarray]) -> dict[str, float]:
        return Accuracy().compute(rows) | F1().compute(rows)

    return figures(rows), interval(figures, rows)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a line for each, its figures with their intervals."""
    head = ["", "accuracy, 95 % interval", "F1 of spam, 95 % interval", "parameters", "steps", "minutes"]
    lines = []
    for name, row in rows.items():
        figures = [(row["held_out"][figure], *row["intervals"][figure]) for figure in ("accuracy", "f1")]
        cells = ["{:.2%} ({:.2%}–{:.2%})".format(*numbers) for numbers in figures]
        of_run = (
            [f"{row['parameters']:,}", f"{row['steps']:,}", f"{row['seconds'] / 60:.1f}"]
            if "steps" in row
            else [""] * 3
        )
        lines.append([name, *cells, *of_run])
    return markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=Path, required=True, help="class folders of mails")
    parser.add_argument("--minilm", type=Path, required=True, help="the published checkpoint")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-mails"), help="where the runs lie")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-mails.md")
    arguments = parser.parse_args()
    source = ("--data.source", str(arguments.mails.resolve()))
    begin = ("--initial-model", str(arguments.minilm.resolve()))
    tuned = trained(RECIPE, arguments.runs / "minilm", (*source, *begin))
    scratch = trained(RECIPE, arguments.runs / "scratch", source)
    experiment = load(RECIPE)
    data = dataclasses.replace(experiment.data, source=source[1]).read_with(
        arguments.runs / "scratch" / "tokenizer.json"
    )
    prepared = data.prepare(experiment.vocabulary_size, arguments.runs / "scratch", lambda text: None)
    figures, intervals = bag_of_words(prepared)
    rows = {
        "MiniLM-L6, fine-tuned": tuned,
        "the same model from scratch": scratch,
        "bag of words, logistic regression": {"held_out": figures, "intervals": intervals},
    }
    machine = "{processor}, {cores} cores, JAX {jax}".format(**tuned["machine"])
    counts = "{training:,} mails to train on, {held_out:,} held out".format(**tuned["corpus"])
    text = f"{table(rows)}\n{counts}. Measured on {machine}.\n"
    print(text)
    if arguments.write:
        fill(PAGE, mails=text)


if __name__ == "__main__":
    main()
