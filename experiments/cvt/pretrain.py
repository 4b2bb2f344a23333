"""CvT: convolutions where tokens are made and where queries, keys and values are projected.

Wu et al.: "CvT: Introducing Convolutions to Vision Transformers", 2021, arXiv 2103.15808.

    lacuna train experiments/cvt/pretrain.py            minutes on a laptop, on digits that pip installs
    lacuna train experiments/cvt/pretrain.py:cvt_13     300 epochs, on TFDS imagenet2012 (its archives by hand)

| ImageNet-1k at 224 | CvT-13 | CvT-21 |
|---|--:|--:|
| top-1 as published | 81.6 | 82.5 |

The paper's rate, "0.02" with AdamW, is not credible, and its configuration is not to be had: 1e-3 for each 1,024 images of a step
stands in for it, as the recipes have it that it refers to.
"""

import dataclasses

from experiments.experiment import Experiment
from experiments.imagenet import imagenet
from experiments.small import DIGITS, picture_sibling
from models.cvt import CvtConfig
from objectives import Classification
from training.optimizers import AdamW


def digits() -> Experiment:
    """A small CvT; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "cvt",
        "CvtForImageClassification",
        CvtConfig(
            patch_sizes=(3, 3, 3),
            patch_stride=(2, 2, 2),
            patch_padding=(1, 1, 1),
            embed_dim=(32, 64, 128),
            num_heads=(1, 2, 4),
            depth=(1, 2, 3),
            drop_rate=(0.0, 0.0, 0.0),
            drop_path_rate=(0.0, 0.0, 0.1),
            labels=DIGITS,
        ),
        Classification(smoothing=0.1),
    )


def cvt_13() -> Experiment:
    """CvT-13: 300 epochs in steps of 2,048, weight decay 0.05."""
    return imagenet(
        "cvt-13",
        "CvtForImageClassification",
        CvtConfig.cvt_13(dtype="bfloat16", scan_layers=True),
        AdamW(learning_rate=2e-3, warmup_steps=3_128, decay="cosine", weight_decay=0.05, eps=1e-8, clip_norm=None),
        batch_size=2_048,
        steps=187_671,
    )


def cvt_21() -> Experiment:
    """CvT-21: the same, weight decay 0.1."""
    base = cvt_13()
    optimizer = dataclasses.replace(base.optimizer, weight_decay=0.1)
    return dataclasses.replace(
        base, name="cvt-21", model=CvtConfig.cvt_21(dtype="bfloat16", scan_layers=True), optimizer=optimizer
    )
