"""ViT against live `transformers`: every parameter perturbed, the published image size and others, masked patches, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models import hub, vit
from models.layers.positions import resize_matrix
from objectives.losses import cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, LABELS = 3, 5
HEADS = ["ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"]


def reference(head: str, **changes):
    config = dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        encoder_stride=8,
        num_labels=LABELS,
        attn_implementation="eager",
    )
    return perturbed(head, transformers.ViTConfig(**{**config, **changes}))


def inputs(head: str, height: int = 32, width: int = 32) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    images = {"pixel_values": jnp.asarray(rng.normal(size=(BATCH, height, width, 3)), jnp.float32)}
    if head != "ViTForMaskedImageModeling":
        return images
    return {**images, "bool_masked_pos": jnp.asarray(rng.random((BATCH, height // 8 * (width // 8))) < 0.5)}


def labels_of(head: str) -> dict[str, np.ndarray]:
    return {"labels": np.arange(BATCH) % LABELS} if head == "ViTForImageClassification" else {}


def our_loss(head: str, outputs, arrays):
    if head == "ViTModel":
        return jnp.sin(outputs["last_hidden_state"]).mean() + outputs["pooler_output"].mean()
    if head == "ViTForImageClassification":
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(labels_of(head)["labels"]))
        return amount / weight
    # As `transformers` has it: the absolute error of the masked patches' pixels, over their number plus 1e-5.
    masked = arrays["bool_masked_pos"].reshape(BATCH, 4, 4).repeat(8, axis=1).repeat(8, axis=2)[..., None]
    errors = jnp.abs(outputs["reconstruction"] - arrays["pixel_values"]) * masked
    return errors.sum() / (masked.sum() + 1e-5) / 3


def their_loss(outputs):
    return torch.sin(outputs.last_hidden_state).mean() + outputs.pooler_output.mean()


@pytest.mark.parametrize(
    ("hidden_act", "qkv_bias"), [("gelu", True), ("gelu_new", True), ("quick_gelu", False)], ids=lambda x: str(x)
)
@pytest.mark.parametrize("head", HEADS)
def test_outputs_losses_and_gradients(head, hidden_act, qkv_bias, tmp_path):
    arrays = inputs(head)
    worst, outputs = differences(
        reference(head, hidden_act=hidden_act, qkv_bias=qkv_bias, pooler_output_size=24, pooler_act="relu"),
        tmp_path,
        arrays,
        their_loss if head == "ViTModel" else labels_of(head),
        lambda outputs: our_loss(head, outputs, arrays),
    )
    assert {"hidden_states", "attentions"} < set(worst) and outputs <= set(worst) | {"last_hidden_state"}
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize(("height", "width"), [(48, 40), (24, 32), (35, 71), (16, 64), (8, 8)])
@pytest.mark.parametrize("head", ["ViTModel", "ViTForImageClassification"])
def test_images_of_other_sizes(head, height, width, tmp_path):
    """Larger, smaller, not of whole patches, and of as many patches in another shape; gradients through the resizing too."""
    arrays = inputs(head, height, width)
    worst, _ = differences(
        reference(head),
        tmp_path,
        arrays,
        their_loss if head == "ViTModel" else labels_of(head),
        lambda outputs: our_loss(head, outputs, arrays),
        options={"interpolate_pos_encoding": True},
    )
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


def test_a_model_made_for_another_size_is_the_same_model(tmp_path):
    """What `at_image_size` makes of the variables, read by `transformers` from a folder with that size in its config."""
    theirs = reference("ViTForImageClassification")
    theirs.save_pretrained(tmp_path / "before")
    model, variables = hub.load(tmp_path / "before")
    model, variables = model.at_image_size(variables, 56)
    hub.save(tmp_path / "after", model, variables)
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "after").eval()
    assert again.config.image_size == 56
    arrays = inputs("ViTForImageClassification", 56, 56)
    found = model.apply(variables, **arrays).logits
    assert difference(found, again(**tensors(arrays)).logits) < 1e-5
    assert difference(found, theirs(**tensors(arrays), interpolate_pos_encoding=True).logits) < 1e-5


@pytest.mark.parametrize(("before", "after"), [(14, 24), (14, 37), (37, 16), (14, 7), (5, 1), (1, 4), (3, 3)])
def test_bicubic_resizing_is_torchs(before, after):
    line = torch.eye(before).reshape(before, 1, before, 1)
    expected = torch.nn.functional.interpolate(line, size=(after, 1), mode="bicubic", align_corners=False)
    assert difference(resize_matrix(before, after).T, expected[:, 0, :, 0]) < 1e-5


@pytest.mark.parametrize(("before", "after"), [(14, 24), (37, 16), (5, 1), (1, 4)])
def test_bilinear_resizing_is_that_of_the_papers_code(before, after):
    """`scipy.ndimage.zoom(order=1)`: `align_corners` in torch's words, which has nothing to say of a single value."""
    line = torch.eye(before).reshape(before, 1, before, 1)
    expected = torch.nn.functional.interpolate(line, size=(after, 1), mode="bilinear", align_corners=True)
    assert difference(resize_matrix(before, after, "bilinear").T, expected[:, 0, :, 0]) < 1e-5


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, qkv_bias, tmp_path):
    round_trip(reference(head, qkv_bias=qkv_bias), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_names_of_today_and_of_version_4_both_load(head, tmp_path):
    """`save_pretrained` writes those of version 4; a state dict saved as it is has those of today."""
    theirs = reference(head)
    theirs.save_pretrained(tmp_path)
    arrays, outputs = inputs(head), []
    for state in (None, theirs.state_dict()):
        if state is not None:
            save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        names = load_file(tmp_path / "model.safetensors")
        assert any("layers.0.attention.q_proj" in name for name in names) == (state is not None)
        model, variables = hub.load(tmp_path)
        outputs.append(model.apply(variables, **arrays).last_hidden_state)
    np.testing.assert_array_equal(*outputs)


def test_every_head_is_compared():
    ours = {name for name in vars(vit) if name.startswith("ViT") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
