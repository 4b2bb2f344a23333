"""ConvNeXt against live `transformers`: every parameter perturbed, sides that the strides do not divide, f32.

Outputs, feature maps, loss and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences
from tests.parity.reference import perturbed, round_trip, torch, transformers

BATCH, LABELS = 3, 7
HEADS = ["ConvNextModel", "ConvNextForImageClassification"]


def reference(head: str, **changes):
    shape = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 3, 1], num_labels=LABELS, image_size=64)
    return perturbed(head, transformers.ConvNextConfig(**{**shape, **changes}))


def images(height: int = 71, width: int = 86, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("ConvNextModel", {"layer_norm_eps": 1e-3}),
        ("ConvNextForImageClassification", {}),
        ("ConvNextForImageClassification", {"layer_scale_init_value": 0.0, "num_channels": 1, "hidden_act": "relu"}),
        (
            "ConvNextForImageClassification",
            {"hidden_sizes": [8, 12], "depths": [2, 1], "num_stages": 2, "patch_size": 2},
        ),
    ],
)
def test_outputs_losses_and_gradients(head, changes, tmp_path):
    classifies = "For" in head

    def our_loss(outputs):
        if not classifies:
            return jnp.sin(outputs["pooler_output"]).mean() + jnp.sin(outputs["last_hidden_state"]).mean()
        amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
        return amount / weight

    def their_loss(outputs):
        return torch.sin(outputs.pooler_output).mean() + torch.sin(outputs.last_hidden_state).mean()

    size = (71, 86) if "patch_size" not in changes else (13, 19)
    found, outputs = image_differences(
        reference(head, **changes),
        tmp_path,
        images(*size, channels=changes.get("num_channels", 3)),
        np.arange(BATCH) if classifies else None,
        our_loss,
        their_loss,
    )
    assert {"hidden_states", "loss", "logits" if classifies else "pooler_output"} <= set(found)
    assert len(outputs.hidden_states) == changes.get("num_stages", 4) + 1
    over = {name: error for name, error in found.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", [{}, {"layer_scale_init_value": 0.0, "depths": [1, 1, 2, 1]}])
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, **changes), tmp_path)


def test_every_head_is_compared():
    assert set(hub.model_classes("convnext")) == set(HEADS)
