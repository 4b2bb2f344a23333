"""LeViT: a convolutional stem, attention in a pyramid, and a teacher to learn from.

Graham et al.: "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference", 2021, arXiv 2104.01136; the recipe from
its repository.

    lacuna train experiments/levit/pretrain.py             minutes on a laptop, on digits that pip installs
    lacuna train experiments/levit/pretrain.py:levit_256 --teacher FOLDER     with a teacher, on TFDS imagenet2012

| ImageNet-1k, 1,000 epochs with a RegNetY-16GF for a teacher | 128S | 128 | 192 | 256 | 384 |
|---|--:|--:|--:|--:|--:|
| top-1 (first README of its repository) | 75.6 | 77.4 | 79.1 | 81.1 | 82.4 |

The teacher here may be any classifier of this repository with the same classes, such as a ResNet-50.
"""

import dataclasses

from experiments.experiment import Experiment
from experiments.imagenet import MIXED, imagenet
from experiments.small import DIGITS, picture_sibling
from models.levit import LevitConfig
from objectives import ClassDistillation, Classification
from training.optimizers import AdamW


def digits() -> Experiment:
    """A small LeViT without a teacher; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "levit",
        "LevitForImageClassification",
        LevitConfig(
            image_size=64,
            hidden_sizes=(64, 96, 128),
            num_attention_heads=(2, 3, 4),
            depths=(2, 2, 2),
            key_dim=(16, 16, 16),
            labels=DIGITS,
        ),
        Classification(smoothing=0.1),
        image_size=64,
    )


def levit_256() -> Experiment:
    """256 as published: 1,000 epochs; the rate is 5e-4 for each 512 images of a step."""
    return imagenet(
        "levit-256",
        "LevitForImageClassificationWithTeacher",
        LevitConfig.levit_256(dtype="bfloat16", scan_layers=True),
        AdamW(
            learning_rate=2e-3,
            warmup_steps=3_128,
            warmup_init=1e-6,
            decay="cosine",
            final_share=5e-3,
            weight_decay=0.025,
            eps=1e-8,
            clip_norm=None,
            adaptive_clip=0.01,
        ),
        batch_size=2_048,
        steps=625_569,
        objective=ClassDistillation(Classification(smoothing=0.1), alpha=0.5, hard=True),
        data=dataclasses.replace(MIXED, repeats=3),
        average_decay=0.99996,
    )


def levit_128s() -> Experiment:
    """128S as published."""
    return dataclasses.replace(
        levit_256(), name="levit-128s", model=LevitConfig.levit_128s(dtype="bfloat16", scan_layers=True)
    )


def levit_384() -> Experiment:
    """384 as published."""
    return dataclasses.replace(
        levit_256(), name="levit-384", model=LevitConfig.levit_384(dtype="bfloat16", scan_layers=True)
    )
