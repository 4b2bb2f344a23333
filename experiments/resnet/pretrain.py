"""ResNet (v1.5): the convolutional network that detection and distillation start from.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015, arXiv 1512.03385; the stride in the 3 × 3 convolution
("v1.5") and the rates for large batches: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, arXiv
1706.02677.

    lacuna train experiments/resnet/pretrain.py              minutes on a laptop, on digits that pip installs
    lacuna train experiments/resnet/pretrain.py:resnet_50    90 epochs, on TFDS imagenet2012 (its archives by hand)
"""

import dataclasses

from data.images.source import Images
from experiments.experiment import Experiment
from experiments.imagenet import imagenet
from experiments.small import DIGITS, picture_sibling
from models.resnet import ResNetConfig
from objectives import Classification
from training.optimizers import SGD


def digits() -> Experiment:
    """A small ResNet; what its siblings share and why is said in experiments/small.py."""
    return picture_sibling(
        "resnet",
        "ResNetForImageClassification",
        ResNetConfig(
            embedding_size=32, hidden_sizes=(32, 64, 128), depths=(1, 1, 1), layer_type="basic", labels=DIGITS
        ),
        Classification(smoothing=0.1),
    )


def resnet_50() -> Experiment:
    """ResNet-50: 90 epochs in steps of 256, the rate 0.1; the published one falls in steps, this along a cosine."""
    return imagenet(
        "resnet-50",
        "ResNetForImageClassification",
        ResNetConfig.resnet50(dtype="bfloat16", scan_layers=True),
        SGD(learning_rate=0.1, warmup_steps=25_022, decay="cosine", momentum=0.9, nesterov=True, weight_decay=1e-4),
        batch_size=256,
        steps=450_396,
        objective=Classification(),
        data=Images("imagenet2012"),
    )


def resnet_101() -> Experiment:
    """ResNet-101 with the same recipe."""
    return dataclasses.replace(
        resnet_50(), name="resnet-101", model=ResNetConfig.resnet101(dtype="bfloat16", scan_layers=True)
    )
