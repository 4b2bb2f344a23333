"""GLPN against live `transformers`: every parameter and every statistic perturbed, evaluation and training, f32.

Depth, feature maps, loss, the gradient of every parameter and the running statistics afterwards agree to 1e-5 of the largest
value compared.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.glpn import GLPNConfig
from objectives import Depth
from tests.parity.images.comparisons import image_differences, perturbed_statistics
from tests.parity.reference import difference, round_trip, torch, transformers

BATCH, HEIGHT, WIDTH = 2, 64, 96
HEADS = ["GLPNModel", "GLPNForDepthEstimation"]
CHANGES = {
    "published": {},
    "wide decoder": {"decoder_hidden_size": 32, "max_depth": 80, "num_channels": 1},
    "depth of an inner stage": {"head_in_index": 1, "strides": [2, 2, 2, 2], "hidden_act": "gelu_new"},
}


def reference(head: str, changes: str = "published"):
    shape = dict(
        hidden_sizes=[8, 16, 20, 32], num_attention_heads=[1, 2, 5, 4], depths=[1, 2, 1, 2], mlp_ratios=[2] * 4
    )
    shape = {**shape, "decoder_hidden_size": 16, "drop_path_rate": 0.0, **CHANGES[changes]}
    return perturbed_statistics(head, transformers.GLPNConfig(**shape))


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((BATCH, HEIGHT, WIDTH, channels)).astype(np.float32)


def depth(shape: tuple[int, ...]) -> np.ndarray:
    """Metres, a fifth of the pixels without."""
    random = np.random.default_rng(1)
    return ((random.random(shape) * 9 + 0.5) * (random.random(shape) > 0.2)).astype(np.float32)


def our_loss(outputs):
    if "predicted_depth" not in outputs:
        return jnp.sin(outputs["last_hidden_state"]).mean()
    labels = jnp.asarray(depth(outputs["predicted_depth"].shape))
    return Depth().losses(Depth().sums(outputs, {"labels": labels}))["depth_loss"]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("training", [False, True])
def test_depth_losses_gradients_and_statistics(changes, training, tmp_path):
    theirs = reference("GLPNForDepthEstimation", changes).train(training)
    pixels = images(CHANGES[changes].get("num_channels", 3))
    with torch.no_grad():
        shape = theirs.eval()(pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2).copy())).predicted_depth.shape
    found, outputs = image_differences(
        theirs.train(training),
        tmp_path,
        pixels,
        depth(tuple(shape)),
        our_loss,
        inputs={"batch_axes": () if training else None},
        scan_layers=True,
    )
    assert {"predicted_depth", "hidden_states", "loss"} <= set(found)
    assert changes == "depth of an inner stage" or outputs.predicted_depth.shape == (BATCH, HEIGHT, WIDTH)
    over = {name: error for name, error in found.items() if error > 1e-5}
    assert not over, over


def test_the_encoder_alone(tmp_path):
    found, _ = image_differences(
        reference("GLPNModel"),
        tmp_path,
        images(),
        None,
        our_loss,
        lambda outputs: torch.sin(outputs.last_hidden_state).mean(),
    )
    assert {"last_hidden_state", "hidden_states"} <= set(found) and max(found.values()) < 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_attentions_are_those_of_each_layer(head, tmp_path):
    theirs, pixels = reference(head), images()
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    with torch.no_grad():
        expected = theirs(torch.tensor(pixels.transpose(0, 3, 1, 2).copy()), output_attentions=True).attentions
    found = model.apply(variables, jnp.asarray(pixels), output_attentions=True).attentions
    assert len(found) == len(expected) == 6
    assert "attentions" not in model.apply(variables, jnp.asarray(pixels))
    for ours, its in zip(found, expected, strict=True):
        assert ours.shape == its.shape and difference(ours, its) < 1e-5


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", CHANGES)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, changes), tmp_path)


def test_published_folders_hold_pickles_which_are_refused(tmp_path):
    reference("GLPNForDepthEstimation").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(hub.ModelError, match=r"pickle, which can run code and is never read.*refs/pr.*save_pretrained"):
        hub.load(tmp_path)


def test_the_default_config_is_theirs():
    theirs = transformers.GLPNConfig().to_dict()
    ours = GLPNConfig.b0().to_json()
    assert GLPNConfig.from_json(theirs) == GLPNConfig.b0()
    assert {name: theirs[name] for name in ours} == {
        name: list(value) if isinstance(value, tuple) and isinstance(theirs[name], list) else value
        for name, value in ours.items()
    }


def test_every_head_is_compared():
    assert set(hub.model_classes("glpn")) == set(HEADS)
