"""Swin against live `transformers`: every parameter perturbed, maps that the windows do not divide, f32.

Outputs, feature maps, loss and the gradient of every parameter agree to 1e-4 of the largest value compared.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.swin import SwinConfig
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences
from tests.parity.reference import perturbed, round_trip, torch, transformers

BATCH, LABELS = 2, 5
HEADS = ["SwinModel", "SwinForImageClassification", "SwinBackbone"]
CHANGES = {
    "published": {},
    "others": dict(
        depths=[1, 2], num_heads=[1, 4], window_size=3, patch_size=2, num_channels=1, mlp_ratio=2.0, qkv_bias=False
    ),
    "whole map": dict(depths=[2, 1], num_heads=[2, 2], window_size=8, image_size=64, use_absolute_embeddings=True),
}
SIZES = {"published": (70, 86), "others": (23, 38), "whole map": (64, 64)}


def reference(head: str, changes: str):
    shape = dict(embed_dim=8, depths=[2, 3, 1], num_heads=[1, 2, 4], window_size=4, num_labels=LABELS, image_size=64)
    features = {"out_features": ["stem", "stage1", "stage2"]} if head == "SwinBackbone" else {}
    return perturbed(head, transformers.SwinConfig(**{**shape, **CHANGES[changes], **features}))


def images(changes: str) -> np.ndarray:
    shape = (BATCH, *SIZES[changes], CHANGES[changes].get("num_channels", 3))
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        *(("SwinForImageClassification", changes) for changes in CHANGES),
        ("SwinModel", "published"),
        ("SwinBackbone", "published"),
        ("SwinBackbone", "others"),
    ],
)
def test_outputs_losses_and_gradients(head, changes, tmp_path):
    classifies = "For" in head
    names = ("last_hidden_state", "pooler_output")

    def our_loss(outputs):
        if classifies:
            amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
            return amount / weight
        return sum(jnp.sin(x).mean() for x in outputs.get("feature_maps") or [outputs[name] for name in names])

    def their_loss(outputs):
        maps = getattr(outputs, "feature_maps", None) or [getattr(outputs, name) for name in names]
        return sum(torch.sin(x).mean() for x in maps)

    labels = np.arange(BATCH) if classifies else None
    found, _ = image_differences(
        reference(head, changes), tmp_path, images(changes), labels, our_loss, their_loss, scan_layers=True
    )
    wanted = {"SwinBackbone": {"feature_maps"}, "SwinModel": {*names, "reshaped_hidden_states", "hidden_states"}}
    assert {"loss"} | wanted.get(head, {"logits", "reshaped_hidden_states"}) <= set(found)
    over = {name: error for name, error in found.items() if error > 1e-4}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", ["published", "whole map"])
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, changes), tmp_path)


def test_windows_larger_than_a_backbones_map_attend_to_padding(tmp_path):
    """A map of 2 × 3 places in a window of 4 × 4: what is padded is no key less than the places."""
    theirs = reference("SwinBackbone", "published")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    pixels = images("published")[:, :16, :20]
    expected = theirs(torch.tensor(pixels.transpose(0, 3, 1, 2).copy())).feature_maps[-1].detach().numpy()
    found = model.apply(variables, jnp.asarray(pixels)).feature_maps[-1]
    assert found.shape[1:3] == (2, 3)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-4)


@pytest.mark.parametrize("variant", SwinConfig.variants)
def test_published_configs(variant):
    ours = SwinConfig.variant(variant, out_features=("stage4",))  # which they write down where nobody says so
    theirs = transformers.SwinConfig(**json.loads(json.dumps(ours.to_json())))
    assert SwinConfig.from_json(theirs.to_dict()) == ours


def test_every_head_is_compared():
    assert set(hub.model_classes("swin")) == set(HEADS)
