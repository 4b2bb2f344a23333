"""Mask2Former: things and stuff, instances and classes by one network that gives masks.

Cheng, Misra, Schwing, Kirillov, Girdhar: "Masked-attention Mask Transformer for Universal Image Segmentation", 2021, arXiv
2112.01527; settings and results are those of the code released with it (github.com/facebookresearch/Mask2Former: `configs/`,
`MODEL_ZOO.md`).

    lacuna train experiments/mask2former/pretrain.py              on digit scenes that pip installs, two CPU cores
    lacuna train experiments/mask2former/pretrain.py:panoptic_resnet_50 --initial-model FOLDER    on TFDS coco/2017_panoptic

| COCO val2017 | R50 | R101 | Swin-T | Swin-S | Swin-B | Swin-B, 22k before | Swin-L, 22k before, 200 queries |
|---|--:|--:|--:|--:|--:|--:|--:|
| panoptic, PQ | 51.9 | 52.6 | 53.2 | 54.6 | 55.1 | 56.4 | 57.8 |
| instances, AP | 43.7 | 44.2 | 45.0 | 46.3 | 46.7 | 48.1 | 50.1 |
| ADE20K, semantic, mIoU at one scale | 47.2 | 47.8 | 47.7 | 51.3 | 52.4 | 53.9 | 56.1 |

Published runs take 8 V100 (Swin-L 16), in mixed precision, 50 epochs of COCO (Swin-L 100) or 160,000 steps of ADE20K, in steps of
16. They begin with a backbone that was trained on ImageNet, which changes at a tenth of the rate. Images were normalised as
ImageNet's are. TFDS `coco/2017` has no masks of instances: `instances_…` reads a folder in COCO's own format, `coco`.
TFDS `scene_parse150` is ADE20K with 150 classes.
"""

import dataclasses

from data.forms import SceneForm
from data.scenes.source import Scenes
from data.scenes.transforms import Alteration
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.masks import MaskPrecision
from evaluation.metrics.segmentation import MeanIoU, PanopticQuality
from experiments.experiment import Experiment, Phase
from experiments.small import DIGITS
from models.mask2former import Mask2FormerConfig
from models.mask2former.config import STAGES
from models.resnet import ResNetConfig
from objectives import MaskPrediction
from training.optimizers import AdamW, Polynomial, Stepwise

PHOTOGRAPH = "photograph"
"""What shows no digit."""
JITTER = Alteration(flip=0.5, scales=(0.1, 2.0), crop=(1024, 1024))
"""Scale jitter, and a crop or a padding."""
ADE_SIDES = tuple(int(share * 512 / 10) for share in range(5, 21))
COLOURS = dict(brightness=0.125, contrast=0.5, saturation=0.5, hue=18.0)


def numbered(count: int) -> tuple[str, ...]:
    """As many classes, until the data name them."""
    return tuple(f"LABEL_{number}" for number in range(count))


def scenes() -> Experiment:
    """A small Mask2Former on digit scenes, from nothing: five digits at most, and the photograph behind them as stuff."""
    return Experiment(
        name="mask2former-digit-scenes",
        architecture="Mask2FormerForUniversalSegmentation",
        model=Mask2FormerConfig(
            backbone_config=ResNetConfig(
                embedding_size=16,
                hidden_sizes=(16, 32, 48, 64),
                depths=(1, 1, 1, 1),
                layer_type="basic",
                out_features=STAGES,
                labels=(*DIGITS, PHOTOGRAPH),
            ),
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=64,
            num_attention_heads=4,
            encoder_layers=2,
            encoder_feedforward_dim=64,
            decoder_layers=4,
            dim_feedforward=128,
            num_queries=10,
            labels=(*DIGITS, PHOTOGRAPH),
            freeze_batch_norm=False,
        ),
        objective=MaskPrediction(num_points=256),
        data=Scenes("digit_scenes", annotations="panoptic", shortest=96, longest=96, alteration=Alteration(flip=0.0)),
        optimizer=AdamW(
            learning_rate=1e-3, warmup_steps=100, decay="cosine", weight_decay=0.05, eps=1e-8, clip_norm=1.0
        ),
        batch_size=16,
        steps=1_200,
        phases=(Phase(1.0, SceneForm((96, 96), objects=6)),),
        evaluate_every=400,
        evaluation_examples=200,
        evaluations=(Evaluation("segments", (PanopticQuality(stuff=(len(DIGITS),)),)),),
        best=Best("segments/pq", more_is_better=True),
        checkpoint_every=400,
    )


def panoptic_resnet_50() -> Experiment:
    """R50 on COCO's things and stuff as published: 50 epochs, the rate a tenth at 0.889 and at 0.963 of the run."""
    return Experiment(
        name="mask2former-panoptic-resnet-50",
        architecture="Mask2FormerForUniversalSegmentation",
        model=of_shape("resnet50", 133),
        objective=MaskPrediction(),
        data=Scenes("coco/2017_panoptic", broken="skip", alteration=JITTER),
        evaluations=(Evaluation("segments", (PanopticQuality(stuff=tuple(range(80, 133))),)),),
        best=Best("segments/pq", more_is_better=True),
        optimizer=Stepwise(
            learning_rate=1e-4,
            drops=(327_778 / 368_750, 355_092 / 368_750),
            weight_decay=0.05,
            clip_norm=0.01,
            slower="backbone",
        ),
        batch_size=16,
        steps=368_750,
        phases=(Phase(1.0, SceneForm((1_344, 1_344), objects=128, buckets=4)),),
        evaluate_every=7_375,
        evaluation_examples=5_000,
        checkpoint_every=7_375,
        log_every=100,
    )


def of_shape(variant: str, classes: int, **changes) -> Mask2FormerConfig:
    """A published variant for so many classes."""
    settings = dict(dtype="bfloat16", scan_layers=True, labels=numbered(classes))
    return Mask2FormerConfig.variant(variant, **{**settings, **changes})


def panoptic_swin_tiny() -> Experiment:
    """Swin-T, as `panoptic_resnet_50`."""
    return dataclasses.replace(
        panoptic_resnet_50(), name="mask2former-panoptic-swin-tiny", model=of_shape("swin_tiny", 133)
    )


def panoptic_swin_large() -> Experiment:
    """Swin-L with 200 queries: 100 epochs."""
    parent = panoptic_resnet_50()
    drops = (655_556 / 737_500, 710_184 / 737_500)
    return dataclasses.replace(
        parent,
        name="mask2former-panoptic-swin-large",
        model=of_shape("swin_large", 133, num_queries=200),
        optimizer=dataclasses.replace(parent.optimizer, drops=drops),
        steps=737_500,
    )


def instances_resnet_50() -> Experiment:
    """R50 on COCO's instances: as `panoptic_resnet_50`, on a folder in COCO's own format."""
    return dataclasses.replace(
        panoptic_resnet_50(),
        name="mask2former-instances-resnet-50",
        model=of_shape("resnet50", 80),
        data=Scenes("coco", annotations="instances", broken="skip", alteration=JITTER),
        evaluations=(Evaluation("segments", (MaskPrecision(),)),),
        best=Best("segments/mask_ap", more_is_better=True),
    )


def ade20k_resnet_50() -> Experiment:
    """R50 on the classes of ADE20K: crops of 512 of pictures whose shorter edge is drawn from 256 to 1,024."""
    parent = panoptic_resnet_50()
    return dataclasses.replace(
        parent,
        name="mask2former-ade20k-resnet-50",
        model=of_shape("resnet50", 150),
        data=Scenes(
            "scene_parse150",
            annotations="semantic",
            shortest=512,
            longest=2_048,
            alteration=Alteration(flip=0.5, short_sides=ADE_SIDES, longest=2_048, crop=(512, 512), **COLOURS),
        ),
        evaluations=(Evaluation("segments", (MeanIoU(),)),),
        best=Best("segments/miou", more_is_better=True),
        optimizer=Polynomial(learning_rate=1e-4, power=0.9, weight_decay=0.05, clip_norm=0.01, slower="backbone"),
        steps=160_000,
        phases=(Phase(1.0, SceneForm((2_048, 2_048), objects=64, buckets=6)),),
        evaluate_every=5_000,
        evaluation_examples=2_000,
        checkpoint_every=5_000,
    )


def ade20k_swin_large() -> Experiment:
    """Swin-L: crops of 640 of pictures whose shorter edge is drawn from 320 to 1,280."""
    parent = ade20k_resnet_50()
    sides = tuple(int(share * 640 / 10) for share in range(5, 21))
    alteration = dataclasses.replace(parent.data.alteration, short_sides=sides, longest=2_560, crop=(640, 640))
    return dataclasses.replace(
        parent,
        name="mask2former-ade20k-swin-large",
        model=of_shape("swin_large", 150),
        data=dataclasses.replace(parent.data, shortest=640, longest=2_560, alteration=alteration),
        phases=(Phase(1.0, SceneForm((2_560, 2_560), objects=64, buckets=6)),),
    )
