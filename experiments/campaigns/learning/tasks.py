"""Docs/learning-tasks.md: each task of texts from two pretrained models and from scratch, beside simple rules.

    make learning-tasks MATERIAL=FOLDER MINILM=FOLDER                     all tasks, three seeds each, and the page
    python -m experiments.campaigns.learning.tasks --material FOLDER --minilm FOLDER --tasks tags --seeds 0 --write

MATERIAL holds `mails`, `genres`, `tags` and `follows`, and `questions`, as `experiments.material.mails`, `.genres`, `.brown` and
`.questions` make them; MINILM is the published checkpoint of MiniLM-L6-H384. The small model is that of `make pretrain`, which is
trained first. Each run is `lacuna train` of a recipe of experiments/bert, trained on `train` and scored on `test` when its steps
are done; `validation`, which the recipes hold out by themselves, is there to choose rates and steps on. What is done already is
taken.
"""

import argparse
import collections
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.text.annotated.rows import Row
from data.text.corpus import Corpus
from evaluation.metrics.squad import scores
from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.campaigns.runs import core_minutes, trained
from experiments.experiment import Experiment, load
from experiments.material.questions import ASKED, spans
from models.config import ModelConfig

PAGE = DOCS / "learning-tasks.md"
PRETRAIN = "experiments/bert/pretrain.py"
LAST = ("--data.held-out-split", "test", "--evaluate-every", "1000000")
"""Evaluate the last state alone, on examples on which nothing was chosen."""
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of the page.

    Attributes:
        recipe: the file whose variant is trained, made for MiniLM-L6.
        figures: what is shown of a result.
        baselines: {what it is: figures of it}, of the experiment with its data and of a checkpoint, whose tokenizer reads texts.
        small: flags for the small model, fine-tuned and from scratch.
    """

    recipe: str
    figures: tuple[str, ...]
    baselines: Callable[[Experiment, Path], dict[str, Figures]]
    small: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Folders of the two pretrained models."""

    minilm: Path
    small: Path


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to train a task.

    Attributes:
        title: of its row.
        of: which pretrained model: `minilm` or `small`.
        scratch: from fresh parameters, with the same shape and tokenizer.
        seeds: at most so many.
    """

    title: str
    of: str
    scratch: bool = False
    seeds: int | None = None

    def flags(self, task: Task, checkpoints: Checkpoints) -> list[str]:
        """Flags of `lacuna train` beside those of the data."""
        folder = vars(checkpoints)[self.of]
        flags = list(task.small) if self.of == "small" else []
        if not self.scratch:
            return [*flags, "--initial-model", str(folder)]
        shape = shape_flags(load(PRETRAIN).model, load(task.recipe).model) if self.of == "small" else []
        return [*flags, *shape, "--data.tokenizer", str(folder / "tokenizer.json")]


WAYS = {
    "minilm": Way("MiniLM-L6, fine-tuned", "minilm"),
    "minilm-scratch": Way("its network from scratch", "minilm", scratch=True, seeds=1),
    "small": Way("the small model, fine-tuned", "small"),
    "small-scratch": Way("its network from scratch", "small", scratch=True),
}


def shape_flags(config: ModelConfig, default: ModelConfig) -> list[str]:
    """Flags of `lacuna train` that change one config of a model to another of its class."""
    flags = []
    for name, value in vars(config).items():
        flag = name.replace("_", "-")
        if value != vars(default)[name]:
            flags += (
                [f"--model.{'' if value else 'no-'}{flag}"]
                if isinstance(value, bool)
                else [f"--model.{flag}", str(value)]
            )
    return flags


def decoded(prepared: Any, items: np.ndarray) -> list[str]:
    """The whole texts, as the tokenizer writes them back."""
    corpus: Corpus = prepared.corpus
    places = zip(*corpus.spans(items), strict=True)
    return [prepared.tokenizer.decode(corpus.tokens[begin:end].tolist()) for begin, end in places]


def of_texts(experiment: Experiment, checkpoint: Path) -> dict[str, Figures]:
    """The most frequent class; logistic regression on the words of whole texts. A word's weight is (1 + log count) · inverse
    document frequency; the regularisation is the best of three by cross-validation on the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    data = experiment.data.read_with(checkpoint / "tokenizer.json")
    prepared = data.prepare(experiment.vocabulary_size, checkpoint, lambda message: None)
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
        (evaluation,) = experiment.evaluations
        return {name: value for metric in evaluation.metrics for name, value in metric.compute(rows).items()}

    return {"the most frequent class": figures(most), "bag of words, logistic regression": figures(guesses)}


def rows_of(experiment: Experiment) -> tuple[list[Row], list[Row]]:
    """The rows to train on and held out."""
    opened = experiment.data.opened()
    training, held_out = ([opened.rows[n] for n in side] for side in experiment.data.sides(opened))
    return training, held_out


def of_tags(experiment: Experiment, checkpoint: Path) -> dict[str, Figures]:
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


def of_questions(experiment: Experiment, checkpoint: Path) -> dict[str, Figures]:
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


def of_choices(experiment: Experiment, checkpoint: Path) -> dict[str, Figures]:
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


def rate(value: float) -> tuple[str, str]:
    """Flags of a learning rate."""
    return "--optimizer.learning-rate", str(value)


SHORT = ("--phases.0.form.length", "128")
"""As many tokens as the small model has positions."""
TASKS = {
    "mails": Task(
        "experiments/bert/classify.py", ("accuracy", "f1"), of_texts, (*rate(1e-3), *SHORT, "--steps", "360")
    ),
    "tags": Task("experiments/bert/tag.py", ("word_accuracy",), of_tags, rate(2e-3)),
    "questions": Task(
        "experiments/bert/answer.py",
        ("exact_match", "f1"),
        of_questions,
        (*rate(1e-3), *SHORT, "--steps", "1600"),
    ),
    "genres": Task("experiments/bert/classify.py:genres", ("accuracy", "macro_f1"), of_texts, (*rate(1e-3), *SHORT)),
    "follows": Task("experiments/bert/choose.py", ("accuracy",), of_choices, rate(1e-3)),
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
            WAYS[way].title,
            *(spread(results, figure) for figure in task.figures),
            f"{results[0]['parameters']:,}",
            str(len(results)),
            f"{results[0]['steps']:,}",
            f"{max(result['core_minutes'] for result in results):.1f}",
        ]
        for way, results in runs.items()
    ]
    rows += [
        [name, *(f"{figures[figure]:.2%}" for figure in task.figures), "", "", "", ""]
        for name, figures in baselines.items()
    ]
    figures = (figure.replace("_", " ") for figure in task.figures)
    return markdown(["", *figures, "parameters", "seeds", "steps", "core-minutes"], rows)


def results(name: str, way: str, checkpoints: Checkpoints, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Of the runs of a task that are trained in one way, which are done first where they are not."""
    task, source, done = TASKS[name], str((arguments.material / name).resolve()), []
    for seed in arguments.seeds[: WAYS[way].seeds]:
        folder = arguments.runs / name / f"{way}-{seed}"
        if not arguments.finished:
            flags = ["--data.source", source, "--seed", str(seed), *LAST, *WAYS[way].flags(task, checkpoints)]
            trained(task.recipe, folder, flags)
        if (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text())
            done.append(result | {"core_minutes": core_minutes(folder)})
    return done


def measured(name: str, checkpoints: Checkpoints, arguments: argparse.Namespace) -> str:
    """The table of a task."""
    task, source = TASKS[name], str((arguments.material / name).resolve())
    runs = {way: results(name, way, checkpoints, arguments) for way in arguments.ways}
    runs = {way: results for way, results in runs.items() if results}
    experiment = load(task.recipe)
    data = dataclasses.replace(experiment.data, source=source, held_out_split="test")
    baselines = task.baselines(dataclasses.replace(experiment, data=data), checkpoints.minilm)
    text = table(task, runs, baselines)
    if not runs:
        return text
    first = next(iter(runs.values()))[0]
    machine = "{processor}, {cores} cores, JAX {jax}".format(**first["machine"])
    return f"{text}\n{{training:,}} {{of}} to train on, {{held_out:,}} in `test`. Measured on {machine}.\n".format(
        **first["corpus"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True, help="the folder of all material")
    parser.add_argument("--minilm", type=Path, required=True, help="the published checkpoint")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="which of them")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), help="which of them")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of each run")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-tasks"), help="where the runs lie")
    parser.add_argument("--finished", action="store_true", help="train nothing: show what is done")
    parser.add_argument("--write", action="store_true", help="fill docs/learning-tasks.md")
    arguments = parser.parse_args()
    small = arguments.runs / "pretrained"
    if any(WAYS[way].of == "small" for way in arguments.ways) and not arguments.finished:
        trained(PRETRAIN, small, [])
    for name in arguments.tasks:
        text = measured(name, Checkpoints(arguments.minilm.resolve(), small.resolve() / "model"), arguments)
        print(text)
        if arguments.write:
            fill(PAGE, **{name: text})


if __name__ == "__main__":
    main()
