"""SegFormer's encoder against live `transformers`: every parameter perturbed, f32.

Outputs, feature maps, loss and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import save_file

from models import hub
from models.segformer import SegformerConfig
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences
from tests.parity.reference import difference, perturbed, round_trip, torch, transformers

BATCH, LABELS = 3, 7
HEADS = ["SegformerModel", "SegformerForImageClassification"]
CHANGES = {
    "published": {},
    "tokens": {"reshape_last_stage": False, "num_channels": 1},
    "three stages": {
        "num_encoder_blocks": 3,
        "hidden_sizes": [8, 12, 20],
        "num_attention_heads": [2, 1, 4],
        "depths": [2, 1, 3],
        "sr_ratios": [1, 3, 2],
        "patch_sizes": [5, 3, 1],
        "strides": [2, 3, 2],
        "mlp_ratios": [1, 3, 2],
        "hidden_act": "relu",
    },
}


def reference(head: str, changes: str = "published"):
    shape = dict(
        hidden_sizes=[8, 16, 20, 32], num_attention_heads=[1, 2, 5, 4], depths=[1, 2, 1, 2], mlp_ratios=[2] * 4
    )
    shape = {**shape, "drop_path_rate": 0.0, "num_labels": LABELS, **CHANGES[changes]}
    return perturbed(head, transformers.SegformerConfig(**shape, attn_implementation="eager"))


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, 69, 98, channels)).astype(np.float32)


def our_loss(outputs):
    if "logits" not in outputs:
        return jnp.sin(outputs["last_hidden_state"]).mean()
    amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
    return amount / weight


@pytest.mark.parametrize(
    ("head", "changes"), [(HEADS[0], "tokens"), (HEADS[1], "published"), (HEADS[1], "three stages")]
)
def test_outputs_losses_and_gradients(head, changes, tmp_path):
    found, outputs = image_differences(
        reference(head, changes).train(),
        tmp_path,
        images(CHANGES[changes].get("num_channels", 3)),
        np.arange(BATCH) if "For" in head else None,
        our_loss,
        lambda outputs: torch.sin(outputs.last_hidden_state).mean(),
        scan_layers=True,
    )
    assert {"hidden_states", "loss", "logits" if "For" in head else "last_hidden_state"} <= set(found)
    assert len(outputs.hidden_states) == CHANGES[changes].get("num_encoder_blocks", 4)
    over = {name: error for name, error in found.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", CHANGES)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, changes), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_a_file_may_have_the_names_of_todays_memory(head, tmp_path):
    theirs = reference(head)
    theirs.save_pretrained(tmp_path)
    save_file({name: x.contiguous() for name, x in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    model, variables = hub.load(tmp_path)
    pixels = images()
    expected = theirs(pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2).copy()))[0]
    ours = model.apply(variables, jnp.asarray(pixels))
    ours = ours.logits if "For" in head else ours.last_hidden_state.transpose(0, 3, 1, 2)
    assert difference(ours, expected) < 1e-5


@pytest.mark.parametrize("variant", SegformerConfig.variants)
def test_the_released_encoders_have_as_many_parameters_there(variant):
    from tests.models.images.test_segformer import COUNTS

    config = SegformerConfig.variant(variant)
    with torch.device("meta"):
        published = {name: value for name, value in config.to_json().items() if name not in ("id2label", "label2id")}
        theirs = transformers.SegformerForImageClassification(
            transformers.SegformerConfig(**published, num_labels=1_000)
        )
    counts = [sum(x.numel() for x in part.parameters()) for part in (theirs.segformer, theirs)]
    assert tuple(counts) == COUNTS[variant]


def test_every_head_is_compared():
    assert set(hub.model_classes("segformer")) == set(HEADS)
