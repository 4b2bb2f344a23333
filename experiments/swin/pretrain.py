"""Swin: images by their labels.

Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021, arXiv
2103.14030; the recipe from its repository (github.com/microsoft/Swin-Transformer: `config.py`, `configs/`).

    lacuna train experiments/swin/pretrain.py          minutes on a laptop, on digits that pip installs
    lacuna train experiments/swin/pretrain.py:tiny     as published, on TFDS imagenet2012 (its archives by hand)

| ImageNet-1k, table 1 of the paper | at 224 | at 384 |
|---|--:|--:|
| T, 300 epochs | 81.3 | |
| S, 300 epochs | 83.0 | |
| B, 300 epochs | 83.5 | 84.5 |
| B, ImageNet-22k before | 85.2 | 86.4 |
| L, ImageNet-22k before | | 87.3 |

ImageNet-22k is no TFDS data set: `large` has its shape on ImageNet-1k. What the runs took is not published.
"""

import dataclasses

from data.forms import ImageForm
from experiments.experiment import Experiment, Phase
from experiments.imagenet import ERASED, imagenet
from experiments.small import DIGITS, picture_sibling
from models.swin import SwinConfig
from objectives import Classification
from training.optimizers import AdamW


def digits() -> Experiment:
    """A small Swin; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "swin",
        "SwinForImageClassification",
        SwinConfig(
            image_size=24,
            patch_size=2,
            embed_dim=48,
            depths=(2, 2, 2),
            num_heads=(2, 4, 8),
            window_size=3,
            drop_path_rate=0.1,
            labels=DIGITS,
        ),
        Classification(smoothing=0.1),
    )


def tiny() -> Experiment:
    """T as published: 300 epochs of ImageNet-1k in steps of 1,024."""
    return imagenet(
        "swin-tiny",
        "SwinForImageClassification",
        SwinConfig.tiny(drop_path_rate=0.2, dtype="bfloat16", scan_layers=True),
        AdamW(
            learning_rate=1e-3,
            warmup_steps=25_023,
            warmup_init=5e-7,
            decay="cosine",
            final_share=5e-3,
            weight_decay=0.05,
            eps=1e-8,
            clip_norm=5.0,
        ),
        batch_size=1_024,
        steps=375_342,
    )


def small() -> Experiment:
    """S as published."""
    return of_shape("small", SwinConfig.small, 0.3)


def base() -> Experiment:
    """B as published."""
    return of_shape("base", SwinConfig.base, 0.5)


def large() -> Experiment:
    """L, with the drop path of its pretraining."""
    return of_shape("large", SwinConfig.large, 0.2)


def of_shape(name: str, shape, drop_path_rate: float):
    """`tiny` with another shape."""
    model = shape(drop_path_rate=drop_path_rate, dtype="bfloat16", scan_layers=True)
    return dataclasses.replace(tiny(), name=f"swin-{name}", model=model)


def fine_tuned() -> Experiment:
    """B fine-tuned at 384 on the same data: 30 epochs of 1,024 at a small rate; wants `--initial-model`."""
    return dataclasses.replace(
        tiny(),
        name="swin-base-384",
        model=SwinConfig.base_384(drop_path_rate=0.5, dtype="bfloat16", scan_layers=True),
        data=ERASED,
        optimizer=AdamW(
            learning_rate=4e-5,
            warmup_steps=6_255,
            warmup_init=4e-8,
            decay="cosine",
            final_share=0.01,
            weight_decay=1e-8,
            eps=1e-8,
            clip_norm=5.0,
        ),
        steps=37_534,
        phases=(Phase(1.0, ImageForm(384)),),
    )
