"""What the small siblings of the published recipes have in common, so that they can be compared (docs/learning.md).

All read the same 6.1 million tokens in the same order of documents, with the same optimizer; models are 128 wide with 4
heads and 4 layers (2 and 2 where there are an encoder and a decoder), without dropout: such a run is short of steps, not of
regularisation. What differs is what is being compared: the architecture, and what its text is turned into.
"""

import dataclasses
from typing import Any

from data.forms import ImageForm, TextForm
from data.images.augmentation import Augmentation
from data.images.source import Images
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from models.config import ModelConfig
from objectives import Objective
from training.optimizers import AdamW

VOCABULARY, LENGTH = 2_048, 128


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


DIGITS = tuple("0123456789")
IMAGE_SIZE = 24


def picture_sibling(
    name: str,
    architecture: str,
    model: ModelConfig,
    objective: Objective,
    image_size: int = IMAGE_SIZE,
    **changes: Any,
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
