"""What recipes of ImageNet-1k have in common: TFDS `imagenet2012`, whose archives are got by hand, at 224 pixels."""

import dataclasses
from typing import Any

from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.source import Images
from experiments.experiment import Experiment, Phase
from models.config import ModelConfig
from objectives import Classification
from training.optimizers import Optimizer

MIXED = Images("imagenet2012", rand_augment=2, augment=Augmentation(mixup=0.8, cutmix=1.0, erasing=0.25))
"""RandAugment, mixup or CutMix, and random erasing, with the settings of DeiT (Touvron et al., 2020, arXiv 2012.12877)."""

ERASED = Images("imagenet2012", rand_augment=2, augment=Augmentation(erasing=0.25))
"""The same without mixing, for fine-tuning."""


def imagenet(
    name: str,
    architecture: str,
    model: ModelConfig,
    optimizer: Optimizer,
    *,
    batch_size: int,
    steps: int,
    **changes: Any,
) -> Experiment:
    """A classifier of ImageNet-1k, with smoothed labels and mixed pictures.

    Args:
        changes: fields of the experiment to set otherwise.
    """
    experiment = Experiment(
        name=name,
        architecture=architecture,
        model=model,
        objective=Classification(smoothing=0.1),
        data=MIXED,
        optimizer=optimizer,
        batch_size=batch_size,
        steps=steps,
        phases=(Phase(1.0, ImageForm(224)),),
        evaluation_examples=50_000,
        log_every=100,
    )
    return dataclasses.replace(experiment, **changes)
