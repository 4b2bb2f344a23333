"""Docs/learning-tasks.md: each task of texts from a published checkpoint and from scratch, beside simple rules.

    make learning-tasks MATERIAL=FOLDER MINILM=FOLDER                     all tasks, three seeds each, and the page
    python -m experiments.campaigns.learning_tasks --material FOLDER --minilm FOLDER --tasks tags --seeds 0 --write

MATERIAL holds `mails`, `tags` and `follows`, `questions`, as `experiments.material.mails`, `.brown` and `.questions` make them;
MINILM is the published checkpoint of MiniLM-L6-H384. Each run is `lacuna train` of a recipe of experiments/bert; what is done
already is taken.
"""

import argparse
import collections
import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.text.annotated.rows import Row
from data.text.corpus import Corpus
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from evaluation.metrics.squad import scores
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import trained
from experiments.experiment import load
from experiments.material.questions import ASKED, spans
from training.metrics import read_metrics

PAGE = DOCS / "learning-tasks.md"
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of the page.

    Attributes:
        recipe: the file whose first variant is trained.
        figures: what is shown of a result.
        baselines: {what it is: figures of it}, of the experiment with its data.
    """

    recipe: str
    figures: tuple[str, ...]
    baselines: Callable[[Any, Path], dict[str, Figures]]


def timed(recipe: str, folder: Path, flags: tuple[str, ...]) -> dict[str, Any]:
    """The result of a run with the `minutes` of its steps, of all calls that it took."""
    result = trained(recipe, folder, flags)
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "train" and "time" in line]
    return result | {"minutes": sum(line["time"]["step_seconds"] for line in lines) / 60}


def decoded(prepared: Any, items: np.ndarray) -> list[str]:
    """The whole texts, as the tokenizer of the run writes them back."""
    corpus: Corpus = prepared.corpus
    places = zip(*corpus.spans(items), strict=True)
    return [prepared.tokenizer.decode(corpus.tokens[begin:end].tolist()) for begin, end in places]


def of_mails(experiment: Any, scratch: Path) -> dict[str, dict[str, float]]:
    """The more frequent class; logistic regression on the words of whole mails. A word's weight is (1 + log count) · inverse
    document frequency; the regularisation is the best of three by cross-validation on the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    data = experiment.data.read_with(scratch / "tokenizer.json")
    prepared = data.prepare(experiment.vocabulary_size, scratch, lambda said: None)
    training, held_out = prepared.training_items, prepared.held_out_items
    words = TfidfVectorizer(sublinear_tf=True)
    model = GridSearchCV(LogisticRegression(max_iter=2_000), {"C": [1, 10, 100]}, cv=5).fit(
        words.fit_transform(decoded(prepared, training)), prepared.labels[training]
    )
    labels = prepared.labels[held_out]
    guesses = model.predict(words.transform(decoded(prepared, held_out)))
    most = np.full(len(labels), np.bincount(prepared.labels[training]).argmax())

    def figures(guesses: np.ndarray) -> Figures:
        rows = {"guesses": guesses, "labels": labels, "right": guesses == labels, "asked": np.ones(len(labels))}
        return Accuracy().compute(rows) | F1().compute(rows)

    return {"the more frequent class": figures(most), "bag of words, logistic regression": figures(guesses)}


def rows_of(experiment: Any) -> tuple[list[Row], list[Row]]:
    """The rows to train on and held out."""
    opened = experiment.data.opened()
    training, held_out = ([opened.rows[n] for n in side] for side in experiment.data.sides(opened))
    return training, held_out


def of_tags(experiment: Any, scratch: Path) -> dict[str, dict[str, float]]:
    """The most frequent label; the most frequent label of each word."""
    training, held_out = rows_of(experiment)
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for row in training:
        for word, label in zip(row.words, row.labels, strict=True):
            counts[word][label] += 1
    most = sum(counts.values(), collections.Counter()).most_common(1)[0][0]
    best = {word: counted.most_common(1)[0][0] for word, counted in counts.items()}
    asked = [pair for row in held_out for pair in zip(row.words, row.labels, strict=True)]
    rules = {
        "the most frequent tag": lambda word: most,
        "the most frequent tag of each word": lambda word: best.get(word, most),
    }
    return {
        name: {"word_accuracy": float(np.mean([rule(word) == label for word, label in asked]))}
        for name, rule in rules.items()
    }


def of_questions(experiment: Any, scratch: Path) -> dict[str, dict[str, float]]:
    """The first span of the context that is a number, or a name, as the question asks; the same in the sentence that has most
    words of the question, where that names no such span itself."""
    _, held_out = rows_of(experiment)
    rules = {"the first such span": first_span, "such a span of the most similar sentence": similar_span}
    found = {}
    for name, rule in rules.items():
        pairs = [scores(rule(row.question, row.text), [text for text, _ in row.answers]) for row in held_out]
        found[name] = dict(zip(("exact_match", "f1"), np.mean(pairs, axis=0).tolist(), strict=True))
    return found


def such_spans(question: str, text: str) -> list[str]:
    """The numbers or the names of a text, as a question asks for."""
    number = question.startswith(ASKED[True])
    found = (span.group() for sentence in sentences_of(text) for span in spans(sentence))
    return [span for span in found if span[0].isdigit() == number]


def sentences_of(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)


def first_span(question: str, context: str) -> str:
    return next(iter(such_spans(question, context)), "")


def similar_span(question: str, context: str) -> str:
    asked = set(words_of(question))
    best = max(sentences_of(context), key=lambda sentence: len(asked & set(words_of(sentence))))
    found = such_spans(question, best)
    return next((span for span in found if not set(words_of(span)) & asked), next(iter(found), ""))


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def of_choices(experiment: Any, scratch: Path) -> dict[str, dict[str, float]]:
    """Chance; the sentence that has most words in common with the text, common words counting less."""
    training, held_out = rows_of(experiment)
    known = collections.Counter(word for row in training for word in set(words_of(row.text)))
    right = []
    for row in held_out:
        asked = set(words_of(row.text))
        likeness = [sum(1 / (1 + known[word]) for word in asked & set(words_of(ending))) for ending in row.endings]
        right.append(int(np.argmax(likeness)) == row.label)
    chance = float(np.mean([1 / len(row.endings) for row in held_out]))
    return {"chance": {"accuracy": chance}, "most words in common": {"accuracy": float(np.mean(right))}}


TASKS = {
    "mails": Task("experiments/bert/classify.py", ("accuracy", "f1"), of_mails),
    "tags": Task("experiments/bert/tag.py", ("word_accuracy",), of_tags),
    "questions": Task("experiments/bert/answer.py", ("exact_match", "f1"), of_questions),
    "follows": Task("experiments/bert/choose.py", ("accuracy",), of_choices),
}
"""By the names of their folders in MATERIAL and of their tables in the page."""


def spread(results: list[Mapping[str, Any]], figure: str) -> str:
    """The mean of a figure over seeds, the least and the most; of one seed its interval."""
    values = [result["held_out"][figure] for result in results]
    low, high = (min(values), max(values)) if len(values) > 1 else results[0]["intervals"][figure]
    return f"{np.mean(values):.2%} ({low:.2%}–{high:.2%})"


def table(task: Task, runs: Mapping[str, list[dict[str, Any]]], baselines: Mapping[str, Figures]) -> str:
    """Markdown: a line for each way to train and for each simple rule."""
    rows = [
        [
            name,
            *(spread(results, figure) for figure in task.figures),
            str(len(results)),
            f"{results[0]['steps']:,}",
            f"{np.mean([result['minutes'] for result in results]):.1f}",
        ]
        for name, results in runs.items()
    ]
    rows += [
        [name, *(f"{figures[figure]:.2%}" for figure in task.figures), "", "", ""]
        for name, figures in baselines.items()
    ]
    return markdown(
        ["", *(figure.replace("_", " ") for figure in task.figures), "seeds", "steps", "minutes of steps"], rows
    )


def measured(name: str, arguments: argparse.Namespace) -> str:
    """The table of a task, its runs done first where they are not."""
    task, source = TASKS[name], str((arguments.material / name).resolve())
    folder = arguments.runs / name
    folder.mkdir(parents=True, exist_ok=True)
    ways = {
        "MiniLM-L6, fine-tuned": ("minilm", "--initial-model", str(arguments.minilm.resolve())),
        "the same model from scratch": ("scratch",),
    }
    runs = {
        way: [
            timed(task.recipe, folder / f"{short}-{seed}", ("--data.source", source, "--seed", str(seed), *flags))
            for seed in arguments.seeds
        ]
        for way, (short, *flags) in ways.items()
    }
    experiment = load(task.recipe)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, source=source))
    first = next(iter(runs.values()))[0]
    machine = "{processor}, {cores} cores, JAX {jax}".format(**first["machine"])
    counts = "{training:,} {of} to train on, {held_out:,} held out".format(**first["corpus"])
    baselines = task.baselines(experiment, folder / f"scratch-{arguments.seeds[0]}")
    return f"{table(task, runs, baselines)}\n{counts}. Measured on {machine}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True, help="the folder of all material")
    parser.add_argument("--minilm", type=Path, required=True, help="the published checkpoint")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="which of them")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of each run")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-tasks"), help="where the runs lie")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-tasks.md")
    arguments = parser.parse_args()
    for name in arguments.tasks:
        text = measured(name, arguments)
        print(text)
        if arguments.write:
            fill(PAGE, **{name: text})


if __name__ == "__main__":
    main()
