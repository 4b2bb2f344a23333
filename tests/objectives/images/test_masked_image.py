"""Masked pictures: how many squares are hidden and where, and losses against slow, obvious oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.images.augmentation import Augmentation
from models.vit import ViTConfig
from models.vit_mae import ViTMAEConfig
from objectives import Augmented, MaskedAutoencoder, MaskedImage, ObjectiveError, Sum
from tests.objectives.conftest import uniform

BATCH, HEIGHT, WIDTH, PATCH = 3, 16, 24, 4
SIMMIM = MaskedImage(patch_size=PATCH, mask_patch_size=8, rate=0.6)
MAE = MaskedAutoencoder(patch_size=PATCH, rate=0.75)
COUNT = 4_000


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(BATCH, HEIGHT, WIDTH, 3)).astype(np.float32)


def corrupt(objective, pictures):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(len(pictures)))
    return jax.jit(jax.vmap(objective.corrupt))(keys, {"pixel_values": jnp.asarray(pictures)})


def test_squares_are_hidden_whole_and_as_many_everywhere():
    seen = corrupt(SIMMIM, np.zeros((COUNT, HEIGHT, WIDTH, 1), np.float32))
    hidden = np.asarray(seen["bool_masked_pos"])
    assert hidden.shape == (COUNT, 24) and hidden.dtype == bool
    grid = hidden.reshape(COUNT, 4, 6)
    squares = np.stack([grid[:, y : y + 2, x : x + 2].reshape(COUNT, 4) for y in (0, 2) for x in (0, 2, 4)], axis=1)
    assert (squares.all(axis=2) == squares.any(axis=2)).all()
    assert (squares[..., 0].sum(axis=1) == 4).all(), "6 · 0.6, rounded up"
    assert uniform(squares[..., 0].sum(axis=0))
    assert len({row.tobytes() for row in squares[..., 0]}) == 15, "all the ways to choose 4 of 6"


def test_of_a_picture_of_224_pixels_30_of_49_squares_are_hidden():
    seen = corrupt(MaskedImage(), np.zeros((1, 224, 224, 3), np.float32))
    assert seen["bool_masked_pos"].shape == (1, 196) and seen["bool_masked_pos"].sum() == 120


def test_the_pixels_under_hidden_patches_alone_are_asked(pictures):
    seen = corrupt(SIMMIM, pictures)
    found = pictures + np.random.default_rng(1).normal(size=pictures.shape).astype(np.float32)
    amount, weight = SIMMIM.loss({"reconstruction": jnp.asarray(found)}, seen)["masked_image_loss"]
    total = numbers = 0
    for b, hidden in enumerate(np.asarray(seen["bool_masked_pos"]).reshape(BATCH, HEIGHT // PATCH, WIDTH // PATCH)):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                if hidden[y // PATCH, x // PATCH]:
                    total += np.abs(pictures[b, y, x].astype(np.float64) - found[b, y, x]).sum()
                    numbers += 3
    assert weight == numbers
    np.testing.assert_allclose(amount, total, rtol=1e-5)


def test_noise_is_uniform_and_of_one_number_a_patch():
    noise = np.asarray(corrupt(MAE, np.zeros((COUNT, HEIGHT, WIDTH, 3), np.float32))["noise"])
    assert noise.shape == (COUNT, 24) and noise.min() >= 0 and noise.max() < 1
    assert uniform(np.histogram(noise, 16, (0, 1))[0])


@pytest.mark.parametrize("normalized", [True, False])
def test_patches_left_out_are_asked_alone(pictures, normalized):
    objective = MaskedAutoencoder(patch_size=PATCH, rate=0.75, normalized=normalized)
    seen = corrupt(objective, pictures)
    logits = np.random.default_rng(1).normal(size=(BATCH, 24, PATCH**2 * 3)).astype(np.float32)
    order = np.argsort(np.asarray(seen["noise"]), axis=1)
    mask = np.ones((BATCH, 24), np.float32)
    for row, places in enumerate(order):
        mask[row, places[:6]] = 0
    outputs = {"logits": jnp.asarray(logits), "mask": jnp.asarray(mask)}
    amount, weight = objective.loss(outputs, seen)["reconstruction_loss"]
    total = 0.0
    for b in range(BATCH):
        for patch in range(24):
            y, x = patch // 6 * PATCH, patch % 6 * PATCH
            wanted = np.array([p for row in pictures[b, y : y + PATCH, x : x + PATCH] for pixel in row for p in pixel])
            wanted = wanted.astype(np.float64)
            if normalized:
                spread = ((wanted - wanted.mean()) ** 2).sum() / (len(wanted) - 1)
                wanted = (wanted - wanted.mean()) / np.sqrt(spread + 1e-6)
            total += mask[b, patch] * ((logits[b, patch] - wanted) ** 2).mean()
    assert weight == BATCH * 18
    np.testing.assert_allclose(amount, total, rtol=1e-5)


def test_weights_do_not_depend_on_outputs(pictures):
    seen = corrupt(SIMMIM, pictures)
    outputs = {"reconstruction": jnp.full(pictures.shape, jnp.nan)}
    assert SIMMIM.loss(outputs, seen)["masked_image_loss"][1] == seen["bool_masked_pos"].sum() * PATCH**2 * 3
    outputs = {"logits": jnp.full((BATCH, 24, PATCH**2 * 3), jnp.nan), "mask": jnp.zeros((BATCH, 24))}
    assert MAE.loss(outputs, corrupt(MAE, pictures))["reconstruction_loss"][1] == BATCH * 18


@pytest.mark.parametrize(
    "broken",
    [
        lambda: MaskedImage(rate=0.0),
        lambda: MaskedImage(patch_size=16, mask_patch_size=24),
        lambda: MaskedImage(patch_size=0),
        lambda: MaskedAutoencoder(rate=1.0),
        lambda: MaskedAutoencoder(patch_size=0),
    ],
)
def test_impossible_settings_are_refused(broken):
    with pytest.raises(ObjectiveError):
        broken()


def test_pictures_and_outputs_that_do_not_fit_are_refused(pictures):
    with pytest.raises(ObjectiveError, match="16 × 24 pixels is not made of squares of 32 × 32"):
        corrupt(MaskedImage(), pictures)
    with pytest.raises(ObjectiveError, match="reconstruction of shape"):
        SIMMIM.loss({"reconstruction": jnp.zeros((BATCH, HEIGHT, WIDTH, 1))}, corrupt(SIMMIM, pictures))
    with pytest.raises(ObjectiveError, match="logits of shape"):
        MAE.loss({"logits": jnp.zeros((BATCH, 24, 3)), "mask": jnp.zeros((BATCH, 24))}, corrupt(MAE, pictures))


def test_a_rate_that_is_not_the_models_is_refused():
    for objective in (MAE, Sum(MAE), Augmented(MAE, Augmentation(), True)):
        objective.check_config(ViTMAEConfig(mask_ratio=0.75))
        objective.check_config(ViTConfig())  # which has none
        with pytest.raises(ObjectiveError, match=r"must agree: rate=0.75, and its mask_ratio is 0.6"):
            objective.check_config(ViTMAEConfig(mask_ratio=0.6))
