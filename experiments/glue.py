"""The tasks of GLUE as their papers evaluate them, for every architecture that is fine-tuned on them.

Wang, Singh, Michael, Hill, Levy, Bowman: "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding", 2018, arXiv 1804.07461. Each is a configuration of TFDS `glue`, whose splits `test` have no labels.
"""

import dataclasses
import math
from collections.abc import Callable

from data.text.labelled import LabelledText
from evaluation.evaluation import Best, Evaluation
from evaluation.metric import Metric
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.correlation import Correlation
from evaluation.metrics.f1 import F1
from evaluation.metrics.matthews import Matthews
from experiments.experiment import Experiment
from objectives import Classification, Regression
from training.optimizers import AdamW

SENTENCES = ("sentence1", "sentence2")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of GLUE.

    Attributes:
        about: what it asks and how it is scored.
        texts: features of its text, or of both.
        training: examples to train on.
        metrics: those of the benchmark, the first of whose `figure` decides which checkpoint is best.
        numbers: whether a number is predicted.
        held_out: the split that is held out; `validation` where empty.
        beside: a second configuration that is evaluated: its name in `metrics.jsonl` and that of TFDS.
    """

    about: str
    texts: tuple[str, ...]
    training: int
    metrics: tuple[Metric, ...] = (Accuracy(),)
    figure: str = "accuracy"
    numbers: bool = False
    held_out: str = ""
    beside: tuple[str, str] | None = None


TASKS = {
    "cola": Task(
        "Whether a sentence is acceptable English; Matthews correlation.",
        ("sentence",),
        8_551,
        (Matthews(),),
        "matthews",
    ),
    "sst2": Task("Whether a sentence of a film review is favourable; accuracy.", ("sentence",), 67_349),
    "mrpc": Task("Whether two sentences say the same; accuracy and F1.", SENTENCES, 3_668, (Accuracy(), F1()), "f1"),
    "qqp": Task(
        "Whether two questions ask the same; accuracy and F1.",
        ("question1", "question2"),
        363_846,
        (Accuracy(), F1()),
        "f1",
    ),
    "stsb": Task(
        "How alike two sentences are, from 0 to 5: a regression; Pearson's and Spearman's correlation.",
        SENTENCES,
        5_749,
        (Correlation(),),
        "spearman",
        numbers=True,
    ),
    "mnli": Task(
        "What a premise says of a hypothesis; accuracy, on genres of the training texts and, `mismatched`, on others.",
        ("premise", "hypothesis"),
        392_702,
        held_out="validation_matched",
        beside=("mismatched", "glue/mnli_mismatched"),
    ),
    "qnli": Task("Whether a sentence answers a question; accuracy.", ("question", "sentence"), 104_743),
    "rte": Task("Whether one text follows from another; accuracy.", SENTENCES, 2_490),
    "wnli": Task("Whom a pronoun means; accuracy.", SENTENCES, 635),
}
"""In the order of the benchmark's tables."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how fast a task is trained.

    Attributes:
        steps, warmup: `None` for three epochs, of which a tenth warms up.
    """

    learning_rate: float = 2e-5
    batch_size: int = 32
    steps: int | None = None
    warmup: int | None = None


def fine_tuned(base: Experiment, task: str, recipe: Recipe = Recipe()) -> Experiment:
    """`base` on a task of `TASKS`, evaluated twelve times, on all held-out examples.

    Args:
        base: its optimizer's other settings stay.
    """
    about = TASKS[task]
    steps = recipe.steps or math.ceil(3 * about.training / recipe.batch_size)
    warmup = round(steps / 10) if recipe.warmup is None else recipe.warmup
    data = LabelledText(
        source=f"glue/{task}", features=(*about.texts, "label"), numbers=about.numbers, held_out_split=about.held_out
    )
    evaluations = [Evaluation(metrics=about.metrics)]
    if about.beside is not None:
        name, source = about.beside
        evaluations.append(
            Evaluation(name, about.metrics, dataclasses.replace(data, source=source, held_out_split="validation"))
        )
    assert isinstance(base.optimizer, AdamW)
    return dataclasses.replace(
        base,
        name=f"{base.name}-{task}",
        objective=Regression() if about.numbers else Classification(),
        data=data,
        optimizer=dataclasses.replace(base.optimizer, learning_rate=recipe.learning_rate, warmup_steps=warmup),
        batch_size=recipe.batch_size,
        steps=steps,
        evaluate_every=math.ceil(steps / 12),
        checkpoint_every=math.ceil(steps / 12),
        evaluation_examples=50_000,
        evaluations=tuple(evaluations),
        best=Best(about.figure, more_is_better=True),
    )


def variants(module: str, base: Callable[[], Experiment], **recipes: Recipe) -> tuple[Callable[[], Experiment], ...]:
    """The experiments of a file, one a task that `recipes` names, in that order.

    Args:
        module: its `__name__`.
        base: what `fine_tuned` makes them of.
    """

    def variant(task: str) -> Callable[[], Experiment]:
        def experiment() -> Experiment:
            return fine_tuned(base(), task, recipes[task])

        experiment.__name__ = experiment.__qualname__ = task
        experiment.__module__, experiment.__doc__ = module, TASKS[task].about
        return experiment

    return tuple(map(variant, recipes))
