"""What the objectives of pictures cost, and how optimizers move, against torch, `transformers` and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.images.augmentation import jittered
from objectives import ClassDistillation, Classification, MaskedAutoencoder, MaskedImage
from tests.parity.reference import difference, torch, transformers
from training.optimizers import SGD

BATCH, CLASSES, SIZE, PATCH = 4, 12, 32, 8
functional = torch.nn.functional


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 2


def mean(pair):
    amount, weight = pair
    return amount / weight


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(7).integers(0, CLASSES, (2, BATCH)).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_labels_of_mixtures_cost_what_torch_says(labels, smoothing, sigmoid):
    share = np.random.default_rng(8).random(BATCH).astype(np.float32)
    batch = {"labels": labels[0], "other_labels": labels[1], "mix": share}
    logits = random(BATCH, CLASSES)
    first, second = (functional.one_hot(torch.tensor(x).long(), CLASSES) for x in labels)
    targets = torch.tensor(share)[:, None] * first + (1 - torch.tensor(share)[:, None]) * second
    if sigmoid:
        targets = (1 - smoothing) * targets + smoothing / CLASSES
        theirs = functional.binary_cross_entropy_with_logits(torch.tensor(logits), targets) * CLASSES
    else:
        theirs = functional.cross_entropy(torch.tensor(logits), targets, label_smoothing=smoothing)
    ours = Classification(smoothing, sigmoid).loss({"logits": jnp.asarray(logits)}, jax.tree.map(jnp.asarray, batch))
    assert difference(mean(ours["classification_loss"]), theirs) < 1e-5


@pytest.mark.parametrize("hard", [True, False])
def test_distilled_classes_cost_what_torch_says(labels, hard):
    """`DistillationLoss` of DeiT and LeViT, its soft loss without the division by the number of classes."""
    alpha, tau = (0.5, 1.0) if hard else (0.1, 3.0)
    outputs = {name: random(BATCH, CLASSES, seed=seed) for seed, name in enumerate(("cls", "distillation", "teacher"))}
    outputs = {f"{name}_logits": value for name, value in outputs.items()}
    student, taught, teacher = map(torch.tensor, outputs.values())
    base = functional.cross_entropy(student, torch.tensor(labels[0]).long())
    if hard:
        told = functional.cross_entropy(taught, teacher.argmax(dim=1))
    else:
        logs = (functional.log_softmax(x / tau, dim=1) for x in (taught, teacher))
        told = functional.kl_div(*logs, reduction="sum", log_target=True) * tau**2 / BATCH
    objective = ClassDistillation(alpha=alpha, hard=hard, temperature=tau)
    losses = objective.loss(jax.tree.map(jnp.asarray, outputs), {"labels": jnp.asarray(labels[0])})
    assert difference(sum(map(mean, losses.values())), base * (1 - alpha) + told * alpha) < 1e-5


def test_hidden_pixels_cost_what_vit_says():
    config = transformers.ViTConfig(
        image_size=SIZE,
        patch_size=PATCH,
        encoder_stride=PATCH,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    reference = transformers.ViTForMaskedImageModeling(config).eval()
    objective = MaskedImage(patch_size=PATCH, mask_patch_size=PATCH)
    pixels = random(BATCH, SIZE, SIZE, 3)
    seen = jax.vmap(objective.corrupt)(
        jax.random.split(jax.random.key(0), BATCH), {"pixel_values": jnp.asarray(pixels)}
    )
    hidden = torch.tensor(np.asarray(seen["bool_masked_pos"]))
    with torch.no_grad():
        theirs = reference(torch.tensor(pixels).permute(0, 3, 1, 2), bool_masked_pos=hidden)
    found = jnp.asarray(theirs.reconstruction.permute(0, 2, 3, 1).numpy())
    ours = objective.loss({"reconstruction": found}, seen)["masked_image_loss"]
    assert difference(mean(ours), theirs.loss) < 1e-5


@pytest.mark.parametrize("normalized", [True, False])
def test_patches_left_out_cost_what_vit_mae_says(normalized):
    config = transformers.ViTMAEConfig(
        image_size=SIZE,
        patch_size=PATCH,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        norm_pix_loss=normalized,
    )
    reference = transformers.ViTMAEForPreTraining(config).eval()
    objective = MaskedAutoencoder(patch_size=PATCH, normalized=normalized)
    pixels = random(BATCH, SIZE, SIZE, 3)
    seen = jax.vmap(objective.corrupt)(
        jax.random.split(jax.random.key(0), BATCH), {"pixel_values": jnp.asarray(pixels)}
    )
    with torch.no_grad():
        theirs = reference(torch.tensor(pixels).permute(0, 3, 1, 2), noise=torch.tensor(np.asarray(seen["noise"])))
    outputs = {"logits": jnp.asarray(theirs.logits.numpy()), "mask": jnp.asarray(theirs.mask.numpy())}
    ours = objective.loss(outputs, seen)["reconstruction_loss"]
    assert ours[1] == float(theirs.mask.sum())
    assert difference(mean(ours), theirs.loss) < 1e-5


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_moves_as_that_of_torch(nesterov):
    start, gradients = random(5, 4), [random(5, 4, seed=seed) for seed in range(1, 5)]
    theirs = torch.nn.Parameter(torch.tensor(start))
    stepper = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    settings = SGD(0.1, warmup_steps=1, decay="constant", nesterov=nesterov, weight_decay=0.01)
    optimizer, params = settings.build(4), {"kernel": jnp.asarray(start)}
    state = optimizer.init(params)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        stepper.step()
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    assert difference(params["kernel"], theirs.detach()) < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_to_the_pixel_as_pillow_changes_them(channels):
    image, enhance = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageEnhance")
    kinds = enhance.Brightness, enhance.Contrast, enhance.Color
    change = jax.jit(jittered)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (17, 23, channels)).astype(np.uint8)
        factors, order = rng.uniform(0.6, 1.4, 3).astype(np.float32), rng.permutation(3).astype(np.int32)
        picture = image.fromarray(pixels if channels == 3 else pixels[..., 0])
        for which in order:
            picture = kinds[which](picture).enhance(float(factors[which]))
        np.testing.assert_array_equal(change(pixels, factors, order), np.asarray(picture).reshape(pixels.shape))
