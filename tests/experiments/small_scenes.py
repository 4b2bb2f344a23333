"""A very small detector with everything that a run on scenes may have, for tests of whole runs."""

from data.forms import SceneForm
from data.scenes.source import Scenes
from data.scenes.transforms import Alteration
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.coco import BoxPrecision
from experiments.experiment import Experiment, Phase
from models.detr import DetrConfig
from models.resnet import ResNetConfig
from objectives import SetPrediction
from training.optimizers import Stepwise


def small() -> Experiment:
    """Pictures of several sizes, cut and resized at random; then the backbone stays as it is."""
    form = SceneForm((64, 64), objects=5, buckets=2)
    return Experiment(
        name="small-scenes",
        architecture="DetrForObjectDetection",
        model=DetrConfig(
            backbone_config=ResNetConfig(
                embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1), layer_type="basic", out_features=("stage2",)
            ),
            num_queries=6,
            encoder_layers=1,
            encoder_ffn_dim=16,
            encoder_attention_heads=2,
            decoder_layers=2,
            decoder_ffn_dim=16,
            decoder_attention_heads=2,
            d_model=16,
            labels=tuple("0123456789"),
            freeze_batch_norm=False,
        ),
        objective=SetPrediction(),
        data=Scenes(
            source="digit_scenes/tiny", shortest=48, longest=64, alteration=Alteration(short_sides=(40, 48), longest=64)
        ),
        optimizer=Stepwise(learning_rate=1e-3, warmup_steps=2, slower="backbone", drops=(0.5,)),
        batch_size=8,
        steps=12,
        phases=(Phase(0.5, form), Phase(0.5, form, trainable="encoder|decoder|classifier|predictor")),
        evaluate_every=6,
        evaluation_examples=16,
        evaluations=(Evaluation("boxes", (BoxPrecision(),)),),
        best=Best("boxes/box_ap", more_is_better=True),
        checkpoint_every=2,
    )
