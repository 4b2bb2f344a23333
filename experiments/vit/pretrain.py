"""ViT pretraining: images by their labels, and by what is hidden of them.

Dosovitskiy et al.: "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2020, arXiv 2010.11929 (1);
Steiner et al.: "How to train your ViT?", 2021, arXiv 2106.10270, with Google's big_vision repository (2); Xie et al.: "SimMIM:
A Simple Framework for Masked Image Modeling", 2021, arXiv 2111.09886 (3).

    lacuna train experiments/vit/pretrain.py             minutes on a laptop, on digits that pip installs
    lacuna train experiments/vit/pretrain.py:small_16    as in (2), on TFDS imagenet2012 (its archives by hand)

| | hardware, time as published | result as published |
|---|---|---|
| 1, H/14, JFT-300M | 2,500 TPUv3-core-days | ImageNet 88.55, fine-tuned |
| 1, L/16, ImageNet-21k | 230 TPUv3-core-days | ImageNet 85.30, fine-tuned at 384 |
| 1, B/16, ImageNet-21k (re-run in its repository) | | ImageNet 84.53, fine-tuned at 384 |
| 2, S/16, ImageNet-1k, 90 epochs | | ImageNet 76.5 |

ImageNet-21k and JFT-300M are no TFDS data sets; `base_16` is what (1) did on ImageNet-1k alone. The recipe of (2) has sinusoids
as positions and the mean of all tokens where ours has learned positions and [CLS], as published weights do.
"""

import dataclasses

from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.source import Images
from experiments.experiment import Experiment, Phase
from experiments.imagenet import imagenet
from experiments.small import DIGITS, picture_sibling
from models.vit import ViTConfig
from objectives import Classification, MaskedImage
from training.optimizers import SGD, AdamW

IMAGENET = tuple(f"LABEL_{number}" for number in range(1_000))
"""As many classes as ImageNet-1k has, until the data name them."""
HALVES = Augmentation(image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5))
"""Pixels from -1 to 1, images seen in a mirror half of the time."""


def digits() -> Experiment:
    """A small ViT; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "vit", "ViTForImageClassification", small_shape(labels=DIGITS), Classification(smoothing=0.1)
    )


def masked_digits() -> Experiment:
    """The same shape, asked for the pixels of hidden squares; `--initial-model` of `digits` takes what it leaves."""
    return picture_sibling(
        "vit-masked",
        "ViTForMaskedImageModeling",
        small_shape(encoder_stride=4),
        MaskedImage(patch_size=4, mask_patch_size=4),
    )


STAMPS = dict(image_size=64, patch_size=8)
"""The shape of models of larger pictures: 64 patches."""


def stamps() -> Experiment:
    """The same model on pictures of 64 × 64 pixels: wants `--data.source`, a folder with a folder for each class."""
    base = digits()
    return dataclasses.replace(
        base,
        name="vit-stamps",
        model=small_shape(**STAMPS),
        data=dataclasses.replace(
            base.data,
            source="stamps",
            held_out=0.25,
            crop="random_resized",
            scale=(0.35, 1.0),
            rotation=0.0,
            shear=0.0,
            rand_augment=2,
            augment=HALVES,
        ),
        steps=1_000,
        phases=(Phase(1.0, ImageForm(64)),),
    )


def masked_stamps() -> Experiment:
    """What `stamps` may begin with: the pixels of hidden squares."""
    base = stamps()
    return dataclasses.replace(
        base,
        name="vit-stamps-masked",
        architecture="ViTForMaskedImageModeling",
        model=small_shape(**STAMPS, encoder_stride=8),
        objective=MaskedImage(patch_size=8, mask_patch_size=8),
        data=dataclasses.replace(base.data, rand_augment=0),
        steps=1_200,
    )


def small_shape(**changes) -> ViTConfig:
    """6 layers × 128, patches of 4 × 4 pixels; they begin as wide as 0.02 makes layers of 768 features (BERT's `demo`)."""
    shape = dict(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        image_size=24,
        patch_size=4,
        initializer_range=0.05,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTConfig(**{**shape, **changes})


def of_shape(variant, **changes):
    """A published variant as it was trained: tanh for gelu, 1e-6 in norms."""
    shape = dict(
        layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh", labels=IMAGENET, dtype="bfloat16", scan_layers=True
    )
    return variant(**{**shape, **changes})


def small_16() -> Experiment:
    """S/16 on ImageNet-1k in 90 epochs: (2), the repository's `vit_s16_i1k`."""
    return imagenet(
        "vit-small-16",
        "ViTForImageClassification",
        of_shape(ViTConfig.small),
        # The rate multiplies the published decay of 1e-4, which was not multiplied: 1e-4 = 1e-3 × 0.1.
        AdamW(learning_rate=1e-3, warmup_steps=10_000, decay="cosine", weight_decay=0.1, eps=1e-8, clip_norm=1.0),
        batch_size=1_024,
        steps=112_603,
        objective=Classification(),
        data=Images(
            source="imagenet2012",
            rand_augment=2,
            magnitude=10.0,
            magnitude_std=0.0,
            scale=(0.05, 1.0),
            augment=dataclasses.replace(HALVES, mixup=0.2),
        ),
    )


def base_16() -> Experiment:
    """B/16 on ImageNet-1k alone: (1), 300 epochs, dropout 0.1, weight decay 0.3."""
    return dataclasses.replace(
        small_16(),
        name="vit-base-16",
        model=of_shape(ViTConfig.base, hidden_dropout_prob=0.1),
        data=Images(source="imagenet2012", augment=HALVES),
        optimizer=AdamW(
            learning_rate=3e-3, warmup_steps=10_000, decay="cosine", weight_decay=0.3, eps=1e-8, clip_norm=1.0
        ),
        batch_size=4_096,
        steps=93_836,
    )


def large_16() -> Experiment:
    """L/16 with the recipe of `base_16`."""
    return dataclasses.replace(base_16(), name="vit-large-16", model=of_shape(ViTConfig.large, hidden_dropout_prob=0.1))


def fine_tuned() -> Experiment:
    """B/16 fine-tuned at 384: (1), SGD with momentum, 20,000 steps of 512; wants `--initial-model`, a folder or a name."""
    base = base_16()
    return dataclasses.replace(
        base,
        name="vit-base-16-fine-tuned",
        model=dataclasses.replace(base.model, image_size=384, hidden_dropout_prob=0.0),
        optimizer=SGD(learning_rate=0.03, warmup_steps=500, decay="cosine", momentum=0.9, clip_norm=1.0),
        batch_size=512,
        steps=20_000,
        phases=(Phase(1.0, ImageForm(384)),),
    )


def masked_base_16() -> Experiment:
    """B/16 asked for hidden squares: (3), 800 epochs at 224 on ImageNet-1k."""
    base = base_16()
    return dataclasses.replace(
        base,
        name="vit-base-16-masked",
        architecture="ViTForMaskedImageModeling",
        model=dataclasses.replace(base.model, hidden_dropout_prob=0.0, hidden_act="gelu", encoder_stride=16),
        objective=MaskedImage(),
        data=Images(source="imagenet2012", scale=(0.67, 1.0)),
        optimizer=AdamW(
            learning_rate=8e-4, warmup_steps=12_512, decay="cosine", weight_decay=0.05, eps=1e-8, clip_norm=5.0
        ),
        batch_size=2_048,
        steps=500_455,
    )
