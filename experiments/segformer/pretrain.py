"""SegFormer's encoder, the Mix Transformer, as a classifier: what it is pretrained as.

Xie et al.: "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", 2021, arXiv 2105.15203.

    lacuna train experiments/segformer/pretrain.py          minutes on a laptop, on digits that pip installs
    lacuna train experiments/segformer/pretrain.py:b4       300 epochs, on TFDS imagenet2012 (its archives by hand)

The paper says that its encoders were pretrained on ImageNet-1k, and not how: settings are those of DeiT (Touvron et al., 2020,
arXiv 2012.12877), 1e-3 for each 1,024 images of a step. GLPN begins with such an encoder (`experiments/glpn/pretrain.py`).
"""

import dataclasses

from experiments.experiment import Experiment
from experiments.imagenet import imagenet
from experiments.small import DIGITS, picture_sibling
from models.segformer import SegformerConfig
from objectives import Classification
from training.optimizers import AdamW


def digits() -> Experiment:
    """A small Mix Transformer; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "segformer",
        "SegformerForImageClassification",
        SegformerConfig(
            num_encoder_blocks=3,
            patch_sizes=(3, 3, 3),
            strides=(2, 2, 2),
            sr_ratios=(2, 1, 1),
            hidden_sizes=(32, 64, 128),
            num_attention_heads=(1, 2, 4),
            depths=(1, 2, 3),
            mlp_ratios=(4, 4, 4),
            labels=DIGITS,
        ),
        Classification(smoothing=0.1),
    )


def b0() -> Experiment:
    """MiT-b0: 300 epochs in steps of 1,024."""
    return imagenet(
        "mit-b0",
        "SegformerForImageClassification",
        SegformerConfig.b0(dtype="bfloat16", scan_layers=True),
        AdamW(learning_rate=1e-3, warmup_steps=6_256, decay="cosine", weight_decay=0.05, eps=1e-8, clip_norm=None),
        batch_size=1_024,
        steps=375_342,
    )


def b4() -> Experiment:
    """MiT-b4: the same."""
    return dataclasses.replace(b0(), name="mit-b4", model=SegformerConfig.b4(dtype="bfloat16", scan_layers=True))
