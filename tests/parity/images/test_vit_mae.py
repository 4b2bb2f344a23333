"""Masked autoencoders against live `transformers`: every parameter perturbed, the sinusoids too, the same noise, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models import hub, vit_mae
from models.outputs import ModelOutput
from models.vit_mae import as_vit
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

build_2d_sinusoidal_position_embedding = pytest.importorskip(
    "transformers.models.vit_mae.modeling_vit_mae"
).build_2d_sinusoidal_position_embedding

BATCH = 3
HEADS = ["ViTMAEModel", "ViTMAEForPreTraining"]


def settings(**changes):
    config = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=24,
        decoder_num_hidden_layers=3,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=40,
        mask_ratio=0.7,
        attn_implementation="eager",
    )
    return transformers.ViTMAEConfig(**{**config, **changes})


def inputs() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, 32, 32, 3))
    return {
        "pixel_values": jnp.asarray(images, jnp.float32),
        "noise": jnp.asarray(rng.random((BATCH, 16)), jnp.float32),
    }


@pytest.mark.parametrize("normalized", [False, True], ids=["pixels", "normalized pixels, no bias"])
@pytest.mark.parametrize("head", HEADS)
def test_outputs_losses_and_gradients(head, normalized, tmp_path):
    pixels = inputs()["pixel_values"].reshape(BATCH, 4, 8, 4, 8, 3).swapaxes(2, 3).reshape(BATCH, 16, 192)
    if normalized:
        deviation = jnp.sqrt(pixels.var(axis=-1, ddof=1, keepdims=True) + 1e-6)
        pixels = (pixels - pixels.mean(axis=-1, keepdims=True)) / deviation

    def our_loss(outputs):
        if head == "ViTMAEModel":
            return jnp.sin(outputs["last_hidden_state"]).mean()
        errors = ((outputs["logits"] - pixels) ** 2).mean(axis=-1)
        return (errors * outputs["mask"]).sum() / outputs["mask"].sum()

    worst, outputs = differences(
        perturbed(head, settings(norm_pix_loss=normalized, qkv_bias=not normalized)),
        tmp_path,
        inputs(),
        (lambda outputs: torch.sin(outputs.last_hidden_state).mean()) if head == "ViTMAEModel" else {},
        our_loss,
    )
    assert {"hidden_states", "attentions", "mask", "ids_restore"} < set(worst)
    assert outputs <= set(worst) | {"last_hidden_state"}
    assert worst["mask"] == worst["ids_restore"] == 0
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_sinusoids_are_theirs(grid):
    """Those of the columns first, as the paper's code has them."""
    features = 32
    theirs = build_2d_sinusoidal_position_embedding(*grid, features, cls_token=True).roll(features // 2, dims=1)
    ours = vit_mae.sinusoids(grid)(jax.random.key(0), (1, 1 + grid[0] * grid[1], features), jnp.dtype("float32"))
    assert difference(ours[0], theirs) < 1e-6


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, qkv_bias, tmp_path):
    round_trip(perturbed(head, settings(qkv_bias=qkv_bias)), tmp_path)


def test_names_of_all_versions_load(tmp_path):
    """Those of version 4, those of version 5's memory, and those that its `save_pretrained` writes of the decoder."""
    theirs = perturbed("ViTMAEForPreTraining", settings())
    theirs.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    older = {name.replace("decoder_encoder.layer", "decoder_layers"): value for name, value in written.items()}
    assert any("decoder.decoder_layers.0.attention.attention.query" in name for name in older)
    outputs: list[ModelOutput] = []
    for state in (written, older, theirs.state_dict()):
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model, variables = hub.load(tmp_path)
        outputs.append(model.apply(variables, **inputs()))
    np.testing.assert_array_equal(outputs[0].logits, outputs[1].logits)
    np.testing.assert_array_equal(outputs[0].logits, outputs[2].logits)
    hub.save(tmp_path / "ours", model, variables)
    assert set(load_file(tmp_path / "ours" / "model.safetensors")) == set(older)


def test_the_encoder_goes_on_as_a_vit(tmp_path):
    theirs = perturbed("ViTMAEForPreTraining", settings(mask_ratio=0.0))
    theirs.save_pretrained(tmp_path / "mae")
    model, variables = as_vit(*hub.load(tmp_path / "mae"))
    hub.save(tmp_path / "vit", model, variables)
    again = transformers.ViTModel.from_pretrained(tmp_path / "vit", add_pooling_layer=False).eval()
    pixels = {"pixel_values": inputs()["pixel_values"]}
    in_order = {**pixels, "noise": jnp.tile(jnp.arange(16.0)[None], (BATCH, 1))}
    found = model.apply(variables, **pixels).last_hidden_state
    assert difference(found, theirs.vit(**tensors(in_order)).last_hidden_state) < 1e-5
    assert difference(found, again(**tensors(pixels)).last_hidden_state) < 1e-5


def test_every_head_is_compared():
    ours = {name for name in vars(vit_mae) if name.startswith("ViTMAE") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
