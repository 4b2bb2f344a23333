"""DETR: objects as a set that a Transformer predicts at once.

Carion, Massa, Synnaeve, Usunier, Kirillov, Zagoruyko: "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872;
settings are those of the code released with it (github.com/facebookresearch/detr: `main.py`, `README.md`, `datasets/coco.py`).

    lacuna train experiments/detr/pretrain.py             on digit scenes that pip installs, two CPU cores
    lacuna train experiments/detr/pretrain.py:resnet_50 --initial-model FOLDER    300 epochs, on TFDS coco/2017, from a ResNet

| COCO val2017, 500 epochs on 16 V100 | R50 | DC5-R50 | R101 | DC5-R101 |
|---|--:|--:|--:|--:|
| box AP (table 1 of the paper) | 42.0 | 43.3 | 43.5 | 44.9 |

300 epochs of R50 take about six days on 8 V100; 150 epochs reach AP 39.5 and AP50 60.3 (README).

Published runs begin with a backbone that was trained on ImageNet. Its norms, its first convolution and its first stage stay as
they are (`trainable`), the others change at a tenth of the rate. Weight decay is of all parameters there, here of kernels and
tables.
"""

import dataclasses

from data.forms import SceneForm
from data.scenes.source import Scenes
from data.scenes.transforms import Alteration
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.coco import BoxPrecision
from experiments.experiment import Experiment, Phase
from experiments.small import DIGITS
from models.detr import DetrConfig
from models.resnet import ResNetConfig
from objectives import SetPrediction
from training.optimizers import AdamW, Stepwise

FROZEN = r"^(?!.*backbone/(embedder|stage_0_|.*normalization)).*"
"""All parameters but those of the backbone that stay as they are."""


def scenes() -> Experiment:
    """A small DETR on digit scenes, from nothing: five digits at most on parts of photographs, 64 pixels at most on a side.

    Its backbone was not trained before, so its norms use the statistics of their batches; it ends at a stride of 8.
    """
    return Experiment(
        name="detr-digit-scenes",
        architecture="DetrForObjectDetection",
        model=DetrConfig(
            backbone_config=ResNetConfig(
                embedding_size=16,
                hidden_sizes=(16, 32),
                depths=(1, 2),
                layer_type="basic",
                out_features=("stage2",),
                labels=DIGITS,
            ),
            num_queries=8,
            encoder_layers=2,
            encoder_ffn_dim=128,
            encoder_attention_heads=4,
            decoder_layers=3,
            decoder_ffn_dim=128,
            decoder_attention_heads=4,
            d_model=64,
            dropout=0.0,
            labels=DIGITS,
            freeze_batch_norm=False,
        ),
        objective=SetPrediction(),
        data=Scenes(source="digit_scenes", shortest=64, longest=64, alteration=Alteration(flip=0.0)),
        optimizer=AdamW(
            learning_rate=7e-4, warmup_steps=200, decay="cosine", weight_decay=1e-4, eps=1e-8, clip_norm=1.0
        ),
        batch_size=16,
        steps=12_000,
        phases=(Phase(1.0, SceneForm((64, 64), objects=5)),),
        evaluate_every=1_000,
        evaluation_examples=400,
        evaluations=(Evaluation("boxes", (BoxPrecision(),)),),
        best=Best("boxes/box_ap50", more_is_better=True),
        checkpoint_every=1_000,
    )


def resnet_50() -> Experiment:
    """R50 as released: 300 epochs in steps of 16, the rate a tenth from epoch 200 on."""
    return Experiment(
        name="detr-resnet-50",
        architecture="DetrForObjectDetection",
        model=DetrConfig.detr_resnet50(
            attention_dropout=0.1,
            activation_dropout=0.1,
            dtype="bfloat16",
            scan_layers=True,
            labels=tuple(f"LABEL_{number}" for number in range(80)),
        ),
        objective=SetPrediction(),
        data=Scenes(
            source="coco/2017",
            broken="skip",
            alteration=Alteration(short_sides=tuple(range(480, 801, 32)), part=0.5),
        ),
        optimizer=Stepwise(learning_rate=1e-4, drops=(2 / 3,), slower="backbone"),
        batch_size=16,
        steps=2_217_900,
        phases=(Phase(1.0, SceneForm((1333, 1333), objects=100, buckets=6), trainable=FROZEN),),
        evaluations=(Evaluation("boxes", (BoxPrecision(),)),),
        best=Best("boxes/box_ap", more_is_better=True),
        evaluation_examples=5_000,
        evaluate_every=36_965,
        checkpoint_every=7_393,
        log_every=100,
    )


def resnet_50_150() -> Experiment:
    """R50 in 150 epochs, the rate a tenth from epoch 100 on: half the time."""
    return dataclasses.replace(resnet_50(), name="detr-resnet-50-150", steps=1_108_950)


def resnet_50_500() -> Experiment:
    """R50 as in the paper: 500 epochs in steps of 64, the rate a tenth from epoch 400 on."""
    return dataclasses.replace(
        resnet_50(),
        name="detr-resnet-50-500",
        optimizer=Stepwise(learning_rate=1e-4, drops=(0.8,), slower="backbone"),
        batch_size=64,
        steps=924_500,
    )


def resnet_50_dc5() -> Experiment:
    """DC5-R50: the last stage dilated instead of halved; 500 epochs as `resnet_50_500`."""
    return _of_shape("detr-resnet-50-dc5", dilation=True)


def resnet_101() -> Experiment:
    """R101, as `resnet_50_500`."""
    return _of_shape("detr-resnet-101", backbone_config=DetrConfig.detr_resnet101().backbone_config)


def resnet_101_dc5() -> Experiment:
    """DC5-R101, as `resnet_50_500`."""
    deep = DetrConfig.detr_resnet101().backbone_config
    return _of_shape("detr-resnet-101-dc5", dilation=True, backbone_config=deep)


def _of_shape(name: str, **changes) -> Experiment:
    """`resnet_50_500` with another model."""
    parent = resnet_50_500()
    return dataclasses.replace(parent, name=name, model=dataclasses.replace(parent.model, **changes))
