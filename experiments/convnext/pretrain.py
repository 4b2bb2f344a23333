"""ConvNeXt: images by their labels, with the recipe of Transformers.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", 2022, arXiv 2201.03545; the recipe from its repository.

    lacuna train experiments/convnext/pretrain.py          minutes on a laptop, on digits that pip installs
    lacuna train experiments/convnext/pretrain.py:tiny     as published, on TFDS imagenet2012 (its archives by hand)

| ImageNet-1k at 224, 300 epochs | GPUs as published | top-1 as published |
|---|---|--:|
| T | 4 × 8, 128 images each | 82.1 |
| S | 4 × 8, 128 images each | 83.1 |
| B | 4 × 8, 128 images each | 83.8 |
| L | 8 × 8, 64 images each | 84.3 |
| XL, ImageNet-22k then 1k | 16 × 8 | 87.0 |

ImageNet-22k is no TFDS data set: `xlarge` has its shape and its 22k rates on ImageNet-1k.
"""

import dataclasses

from data.forms import ImageForm
from experiments.experiment import Experiment, Phase
from experiments.imagenet import ERASED, imagenet
from experiments.small import DIGITS, picture_sibling
from models.convnext import ConvNextConfig
from objectives import Classification
from training.optimizers import AdamW


def digits() -> Experiment:
    """A small ConvNeXt; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "convnext",
        "ConvNextForImageClassification",
        ConvNextConfig(
            hidden_sizes=(48, 96, 192),
            depths=(2, 4, 2),
            patch_size=2,
            num_stages=3,
            image_size=24,
            drop_path_rate=0.1,
            layer_scale_init_value=0.1,
            labels=DIGITS,
        ),
        Classification(smoothing=0.1),
    )


def tiny() -> Experiment:
    """T as published: 300 epochs of ImageNet-1k in steps of 4,096."""
    return imagenet(
        "convnext-tiny",
        "ConvNextForImageClassification",
        ConvNextConfig.tiny(drop_path_rate=0.1, layer_norm_eps=1e-6, dtype="bfloat16", scan_layers=True),
        AdamW(
            learning_rate=4e-3,
            warmup_steps=6_256,
            decay="cosine",
            final_share=2.5e-4,
            weight_decay=0.05,
            eps=1e-8,
            clip_norm=None,
        ),
        batch_size=4_096,
        steps=93_836,
        average_decay=0.9999,
    )


def small() -> Experiment:
    """S as published."""
    return of_shape("small", ConvNextConfig.small, 0.4)


def base() -> Experiment:
    """B as published."""
    return of_shape("base", ConvNextConfig.base, 0.5)


def large() -> Experiment:
    """L as published."""
    return of_shape("large", ConvNextConfig.large, 0.5)


def xlarge() -> Experiment:
    """XL, with the drop path of its pretraining."""
    return of_shape("xlarge", ConvNextConfig.xlarge, 0.2)


def of_shape(name: str, shape, drop_path_rate: float):
    """`tiny` with another shape."""
    model = shape(drop_path_rate=drop_path_rate, layer_norm_eps=1e-6, dtype="bfloat16", scan_layers=True)
    return dataclasses.replace(tiny(), name=f"convnext-{name}", model=model)


def fine_tuned() -> Experiment:
    """T fine-tuned at 384 on the same data: 30 epochs of 512, rates falling from layer to layer; wants `--initial-model`."""
    return dataclasses.replace(
        tiny(),
        name="convnext-tiny-384",
        model=ConvNextConfig.tiny(
            drop_path_rate=0.1,
            image_size=384,
            head_init_scale=0.001,
            layer_norm_eps=1e-6,
            dtype="bfloat16",
            scan_layers=True,
        ),
        data=ERASED,
        optimizer=AdamW(
            learning_rate=5e-5,
            warmup_steps=0,
            decay="cosine",
            final_share=0.02,
            weight_decay=1e-8,
            eps=1e-8,
            clip_norm=None,
            layer_decay=0.7,
        ),
        batch_size=512,
        steps=75_060,
        phases=(Phase(1.0, ImageForm(384)),),
    )
