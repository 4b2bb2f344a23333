"""CvT against live `transformers`: every parameter and every statistic perturbed, evaluation and training, f32.

Outputs, feature maps, loss, the gradient of every parameter and the running statistics afterwards agree to 1e-5 of the
largest value compared.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.cvt import CvtConfig
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences, perturbed_statistics
from tests.parity.reference import round_trip, torch, transformers

BATCH, LABELS = 4, 7
HEADS = ["CvtModel", "CvtForImageClassification"]
CHANGES = {
    "published": {},
    "no class token": {"cls_token": [False, False, False], "num_channels": 1},
    "other kernels": {
        "qkv_bias": [True, False, False],
        "kernel_qkv": [3, 5, 1],
        "padding_q": [1, 2, 0],
        "padding_kv": [0, 1, 0],
        "stride_kv": [3, 1, 2],
        "mlp_ratio": [4.0, 1.5, 2.0],
        "patch_sizes": [5, 2, 3],
        "patch_padding": [1, 0, 1],
    },
}


def reference(head: str, changes: str = "published"):
    """Its rates are 0: it drops whole sums where the paper drops branches."""
    shape = dict(embed_dim=[8, 16, 32], num_heads=[1, 2, 4], depth=[1, 2, 3], drop_path_rate=[0.0, 0.0, 0.0])
    return perturbed_statistics(head, transformers.CvtConfig(**shape, num_labels=LABELS, **CHANGES[changes]))


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, 37, 46, channels)).astype(np.float32)


def our_loss(outputs):
    if "logits" not in outputs:
        return jnp.sin(outputs["last_hidden_state"]).mean() + jnp.sin(outputs["cls_token_value"]).mean()
    amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
    return amount / weight


def their_loss(outputs):
    return torch.sin(outputs.last_hidden_state).mean() + torch.sin(outputs.cls_token_value).mean()


@pytest.mark.parametrize(
    ("head", "changes", "training"),
    [
        ("CvtModel", "published", False),
        ("CvtForImageClassification", "published", True),
        ("CvtForImageClassification", "no class token", False),
        ("CvtForImageClassification", "other kernels", True),
    ],
)
def test_outputs_losses_gradients_and_statistics(head, changes, training, tmp_path):
    found, outputs = image_differences(
        reference(head, changes).train(training),
        tmp_path,
        images(CHANGES[changes].get("num_channels", 3)),
        np.arange(BATCH) if "For" in head else None,
        our_loss,
        their_loss,
        inputs={"batch_axes": () if training else None},
        scan_layers=True,
    )
    assert {"hidden_states", "loss", "logits" if "For" in head else "cls_token_value"} <= set(found)
    assert [x.shape[1:] for x in outputs.hidden_states][-1] == outputs.last_hidden_state.shape[1:]
    over = {name: error for name, error in found.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", CHANGES)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, changes), tmp_path)


def test_transformers_reads_our_config_with_whole_numbers_for_rates(tmp_path):
    model, variables = hub.load(_saved(reference("CvtModel"), tmp_path / "theirs"))
    config = dataclasses.replace(model.config, drop_path_rate=(0, 0, 1), mlp_ratio=(4, 4, 4))
    hub.save(tmp_path / "ours", type(model)(config), variables)
    again = transformers.CvtModel.from_pretrained(tmp_path / "ours")
    assert again.config.drop_path_rate == [0.0, 0.0, 1.0]


def test_the_default_config_is_theirs():
    theirs = transformers.CvtConfig(num_labels=1000).to_dict()
    ours = CvtConfig.cvt_13().to_json()
    assert CvtConfig.from_json(theirs) == CvtConfig.cvt_13()
    assert {name: theirs[name] for name in ours if name not in ("id2label", "label2id")} == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in ours.items()
        if name not in ("id2label", "label2id")
    }


def _saved(theirs, folder):
    theirs.save_pretrained(folder)
    return folder


def test_every_head_is_compared():
    assert set(hub.model_classes("cvt")) == set(HEADS)
