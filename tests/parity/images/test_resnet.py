"""ResNet against live `transformers`: every parameter and every statistic perturbed, evaluation and training, f32.

Outputs, feature maps and loss agree to 1e-5 of the largest value compared, the gradient of every parameter to 1e-4: those
of norms are sums over all places that nearly cancel. In training all to 1e-4, running statistics too: batch norms divide
by the spread of few numbers.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences, perturbed_statistics
from tests.parity.reference import round_trip, torch, transformers

BATCH, LABELS = 6, 7
HEADS = ["ResNetModel", "ResNetForImageClassification", "ResNetBackbone"]
SHAPES = {
    "bottleneck": dict(hidden_sizes=[16, 24, 32, 40], depths=[2, 3, 1, 2]),
    "2015": dict(hidden_sizes=[16, 24], depths=[2, 1], downsample_in_bottleneck=True),
    "halved at once": dict(hidden_sizes=[8, 12], depths=[1, 2], downsample_in_first_stage=True, hidden_act="gelu"),
    "basic": dict(hidden_sizes=[8, 12, 16], depths=[2, 2, 1], layer_type="basic", num_channels=1),
}


def reference(head: str, shape: str):
    config = transformers.ResNetConfig(embedding_size=8, num_labels=LABELS, **SHAPES[shape])
    return perturbed_statistics(head, config)


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, 75, 62, channels)).astype(np.float32)


def our_loss(outputs):
    if "logits" not in outputs:
        return jnp.sin(outputs["pooler_output"]).mean()
    amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
    return amount / weight


def their_loss(outputs):
    return torch.sin(outputs.pooler_output).mean()


@pytest.mark.parametrize("stages", [None, ["stage4"], ["stem", "stage1", "stage3"]], ids=["default", "last", "several"])
def test_feature_maps_of_a_backbone(stages, tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, **SHAPES["bottleneck"], out_features=stages)
    found, outputs = image_differences(
        perturbed_statistics("ResNetBackbone", config),
        tmp_path,
        images(),
        None,
        lambda outputs: sum(jnp.sin(0.1 * x).mean() for x in outputs["feature_maps"]),
        lambda outputs: sum(torch.sin(0.1 * x).mean() for x in outputs.feature_maps),
    )
    assert {"feature_maps", "hidden_states", "loss"} <= set(found)
    assert len(outputs.feature_maps) == len(stages or [0])
    over = {name: error for name, error in found.items() if error > (1e-4 if "gradient" in name else 1e-5)}
    assert not over, over


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("head", "shape"), [(HEADS[0], "bottleneck"), *((HEADS[1], shape) for shape in SHAPES)], ids=lambda x: x
)
def test_outputs_losses_gradients_and_statistics(head, shape, training, tmp_path):
    found, _ = image_differences(
        reference(head, shape).train(training),
        tmp_path,
        images(SHAPES[shape].get("num_channels", 3)),
        np.arange(BATCH) if "For" in head else None,
        our_loss,
        their_loss,
        inputs={"batch_axes": () if training else None},
    )
    assert {"hidden_states", "loss", "logits" if "For" in head else "pooler_output"} <= set(found)
    over = {name: error for name, error in found.items() if error > (1e-4 if training or "gradient" in name else 1e-5)}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, shape, tmp_path):
    round_trip(reference(head, shape), tmp_path)


def test_every_head_is_compared():
    assert set(hub.model_classes("resnet")) == set(HEADS)
