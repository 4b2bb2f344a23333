"""What the small siblings of the published recipes have in common, so that they can be compared (docs/learning.md).

All read the same 6.1 million tokens in the same order of documents, with the same optimizer; models are 128 wide with 4
heads and 4 layers (2 and 2 where there are an encoder and a decoder), without dropout: such a run is short of steps, not of
regularisation. What differs is what is being compared: the architecture, and what its text is turned into.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax.core import FrozenDict

from data.forms import ImageForm, PairForm, TextForm
from data.images.augmentation import Augmentation
from data.images.source import Images
from data.text.labelled import LabelledText
from data.text.pairs import Pairs
from data.text.source import Text
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from evaluation.metrics.rouge import Rouge
from evaluation.metrics.translation import Bleu, ChrF
from experiments.experiment import Experiment, Phase
from inference.tasks.translation import Translation
from inference.writing import Writing
from models.config import ModelConfig
from objectives import Classification, Objective
from training.optimizers import AdamW

VOCABULARY, LENGTH = 2_048, 128
ENCODER_DECODER = dict(
    **dict(d_model=128, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=512),
    **dict(decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=512, dropout=0.0),
)
"""The shape of a BART, an mBART, a Transformer."""


def sibling(
    name: str, architecture: str, model: ModelConfig, objective: Objective, kind: str = "wordpiece", **changes: Any
) -> Experiment:
    """A run of some minutes on two CPU cores, on the Wikipedia articles that the `demo` extra installs.

    Args:
        kind: of the tokenizer.
        changes: fields of the experiment to set otherwise.
    """
    experiment = Experiment(
        name=f"{name}-sibling",
        architecture=architecture,
        model=model,
        objective=objective,
        data=Text(source="wikipedia_dump", kind=kind, held_out=0.15),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=200, b2=0.98),
        batch_size=16,
        steps=3_000,
        phases=(Phase(1.0, TextForm(LENGTH)),),
        evaluate_every=500,
        evaluation_examples=512,
        checkpoint_every=500,
        log_every=1,
    )
    return dataclasses.replace(experiment, **changes)


def genre_sibling(name: str, architecture: str, model: ModelConfig, kind: str, **changes: Any) -> Experiment:
    """A classifier of passages of the Brown corpus by genre: `experiments/material/genres.py` makes the folder `genres`.

    Made for the checkpoint of the small pretraining run of its architecture (`--initial-model`); without one the same model is
    trained from scratch.

    Args:
        kind: of the tokenizer.
        changes: fields of the experiment to set otherwise.
    """
    experiment = dataclasses.replace(
        sibling(name, architecture, model, Classification(), kind),
        name=f"{name}-genres",
        data=LabelledText(source="genres", kind=kind),
        optimizer=AdamW(learning_rate=5e-4, warmup_steps=100),
        batch_size=32,
        steps=800,
        evaluate_every=200,
        checkpoint_every=200,
        evaluation_examples=2_048,
        evaluations=(Evaluation(metrics=(Accuracy(), F1(average="macro"))),),
        best=Best("macro_f1", more_is_better=True),
    )
    return dataclasses.replace(experiment, **changes)


def writing_sibling(
    name: str, architecture: str, model: ModelConfig, objective: Objective, data: Pairs, **changes: Any
) -> Experiment:
    """A model that reads one text and writes another, trained on pairs for some minutes on two CPU cores, what it writes scored.

    Args:
        changes: fields of the experiment to set otherwise.
    """
    experiment = dataclasses.replace(
        sibling(name, architecture, model, objective, data.kind),
        name=name,
        data=data,
        batch_size=32,
        phases=(Phase(1.0, PairForm(64, 64, buckets=12)),),
        evaluate_every=1_000,
        checkpoint_every=1_000,
        evaluations=(translated(Translation(generation=FrozenDict(num_beams=4, max_length=64)), examples=256),),
        best=Best("written/bleu", more_is_better=True),
    )
    return dataclasses.replace(experiment, **changes)


def translated(task: Writing, name: str = "written", **changes: Any) -> Evaluation:
    """BLEU and chrF of translations.

    Args:
        changes: fields of the evaluation to set otherwise.
    """
    return Evaluation(name, (Bleu(), ChrF()), task=task, **changes)


def summarised(task: Writing, name: str = "written", **changes: Any) -> Evaluation:
    """ROUGE of summaries.

    Args:
        changes: fields of the evaluation to set otherwise.
    """
    return Evaluation(name, (Rouge(),), task=task, **changes)


def on_test(
    evaluated: Callable[..., Evaluation], task: Writing, data: Pairs, steps: int, examples: int
) -> tuple[Evaluation, Evaluation]:
    """Some held-out examples during a run of so many steps, and at its end the test split.

    Args:
        evaluated: `translated` or `summarised`.
        examples: of the test split.
    """
    test = dataclasses.replace(data, training_split="", held_out_split="test")
    return evaluated(task, examples=1_000), evaluated(task, "test", data=test, every=steps, examples=examples)


SYNOPSES = Pairs(source="synopses.tsv", features=("description", "synopsis"), held_out=0.03)
"""What `experiments/material/synopses.py` makes of Debian's packages."""

BIBLE = Pairs(source="bible.tsv", features=("en", "es"), held_out=0.03)
"""What `experiments/transformer/bible.py` makes: verses in English and Spanish."""

DIGITS = tuple("0123456789")


def picture_sibling(
    name: str, architecture: str, model: ModelConfig, objective: Objective, image_size: int = 24, **changes: Any
) -> Experiment:
    """A run of some minutes on two CPU cores, on the handwritten digits that the `demo` extra installs.

    Args:
        changes: fields of the experiment to set otherwise.
    """
    experiment = Experiment(
        name=f"{name}-digits",
        architecture=architecture,
        model=model,
        objective=objective,
        data=Images(
            source="sklearn_digits",
            held_out=0.2,
            crop="padded",
            padding=2,
            rotation=15.0,
            shear=15.0,
            crop_pct=1.0,
            augment=Augmentation(flip=0.0, image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5)),
        ),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=100, decay="cosine", weight_decay=0.05, eps=1e-8),
        batch_size=64,
        steps=2_000,
        phases=(Phase(1.0, ImageForm(image_size)),),
        evaluate_every=500,
        evaluation_examples=1_024,
        checkpoint_every=500,
        log_every=1,
    )
    return dataclasses.replace(experiment, **changes)
