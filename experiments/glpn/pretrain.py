"""GLPN: depth from one picture.

Kim, Ka, Ahn, Joo, Chun, Kim: "Global-Local Path Networks for Monocular Depth Estimation with Vertical CutDepth", 2022,
arXiv 2201.07436.

    lacuna train experiments/glpn/pretrain.py           minutes on a laptop, on rooms that are rendered there
    lacuna train experiments/glpn/pretrain.py:stereo --initial-model runs/glpn-rendered    then on crops of a real picture
    lacuna train experiments/glpn/pretrain.py:nyu --initial-model MIT_B4      25 epochs, on TFDS nyu_depth_v2
    lacuna train experiments/glpn/pretrain.py:kitti --initial-model MIT_B4    25 epochs, on lists of KITTI's files

Its absolute relative error, as a later paper's comparison quotes it: 0.098 on NYU Depth v2, 0.057 on KITTI, Eigen's split.

MIT_B4 is a checkpoint of the encoder that was trained on ImageNet (`experiments/segformer/pretrain.py`). The published runs read
24,231 pictures of NYU; TFDS has another choice of 47,584, of which a run of as many steps sees half as many epochs. KITTI's
depth is no TFDS data set: `kitti_train.txt` has a line for each picture, its file and that of its depth (docs/scenes.md).
What the runs took is not published. Metrics are of the part of a picture that their authors score.
"""

import dataclasses

from data.forms import SceneForm
from data.scenes.source import Scenes
from data.scenes.transforms import Alteration
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.depth import DepthErrors
from experiments.experiment import Experiment, Phase
from models.glpn import GLPNConfig
from objectives import Depth
from training.optimizers import AdamW, Triangular

UNCHANGED = dict(image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
"""Pictures are of values from 0 to 1."""
COLOURS = dict(brightness=0.2, contrast=0.2, gamma=0.2, hue=20.0, saturation=0.3)
"""How much pictures are recoloured, each with a probability of a half."""


def rendered() -> Experiment:
    """A small GLPN on 3,000 rendered rooms of 96 × 128 pixels."""
    return Experiment(
        name="glpn-rendered",
        architecture="GLPNForDepthEstimation",
        model=GLPNConfig(
            hidden_sizes=(16, 32, 64, 96),
            num_attention_heads=(1, 2, 4, 6),
            depths=(1, 1, 2, 1),
            sr_ratios=(4, 2, 1, 1),
            mlp_ratios=(4, 4, 4, 4),
            decoder_hidden_size=32,
            drop_path_rate=0.0,
        ),
        objective=Depth(),
        data=Scenes("rendered_depth", alteration=Alteration(flip=0.5, brightness=0.2, contrast=0.2), **UNCHANGED),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=100, decay="cosine", weight_decay=0.01, eps=1e-8),
        batch_size=16,
        steps=1_000,
        phases=(Phase(1.0, SceneForm((96, 128), objects=0)),),
        evaluate_every=250,
        evaluation_examples=300,
        evaluations=(Evaluation(metrics=(DepthErrors(),)),),
        best=Best("abs_rel"),
        checkpoint_every=250,
        log_every=1,
    )


def stereo() -> Experiment:
    """The same model on crops of one real picture, whose depth was measured: `experiments/material/stereo.py` makes the folder.

    Made for the checkpoint of the run on rendered rooms (`--initial-model runs/glpn-rendered`); without one the same model is
    trained from scratch.
    """
    before = rendered()
    return dataclasses.replace(
        before,
        name="glpn-stereo",
        data=Scenes("stereo", alteration=Alteration(flip=0.5, cut_depth=0.25, **COLOURS), **UNCHANGED),
        optimizer=dataclasses.replace(before.optimizer, learning_rate=5e-4, warmup_steps=20),
        steps=200,
        evaluate_every=50,
        checkpoint_every=50,
    )


def nyu() -> Experiment:
    """GLPN on NYU Depth v2 as published: MiT-b4, crops of 448 × 576 in batches of 12."""
    return Experiment(
        name="glpn-nyu",
        architecture="GLPNForDepthEstimation",
        model=GLPNConfig.nyu(dtype="bfloat16", scan_layers=True),
        objective=Depth(max_depth=10.0),
        data=Scenes(
            "nyu_depth_v2", alteration=Alteration(flip=0.5, crop=(448, 576), cut_depth=0.25, **COLOURS), **UNCHANGED
        ),
        optimizer=Triangular(
            learning_rate=1e-4, warmup_init=3e-5, power=0.9, weight_decay=0.0, eps=1e-8, clip_norm=None
        ),
        batch_size=12,
        steps=50_475,
        phases=(Phase(1.0, SceneForm((480, 640), objects=0, buckets=2)),),
        evaluate_every=2_019,
        evaluation_examples=654,
        evaluations=(Evaluation(metrics=(DepthErrors(crop="eigen_nyu"),)),),
        best=Best("abs_rel"),
        checkpoint_every=2_019,
        log_every=100,
    )


def kitti() -> Experiment:
    """GLPN on KITTI as published: the same, crops of 352 × 704, depth to 80 m."""
    before = nyu()
    alteration = dataclasses.replace(before.data.alteration, crop=(352, 704), cut_depth_white=80.0)
    return dataclasses.replace(
        before,
        name="glpn-kitti",
        model=GLPNConfig.kitti(dtype="bfloat16", scan_layers=True),
        objective=Depth(max_depth=80.0),
        data=Scenes("kitti_train.txt", annotations="depth", depth_scale=256.0, alteration=alteration, **UNCHANGED),
        steps=48_225,
        phases=(Phase(1.0, SceneForm((352, 1_216), objects=0, buckets=2)),),
        evaluate_every=1_929,
        evaluation_examples=652,
        evaluations=(Evaluation(metrics=(DepthErrors(crop="garg", max_depth=80.0),)),),
        checkpoint_every=1_929,
    )
