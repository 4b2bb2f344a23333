"""Wav2Vec2 against live `transformers`: every parameter perturbed, both norms, padded utterances, masked frames, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-4 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models import hub, wav2vec2
from objectives import Contrastive, Ctc
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import (
    difference,
    differences,
    gradient_differences,
    perturbed,
    round_trip,
    tensors,
    torch,
    transformers,
)

BATCH, SAMPLES, LABELS = 3, 800, 5
LENGTHS = np.array([800, 600, 230])
HEADS = ["Wav2Vec2Model", "Wav2Vec2ForPreTraining", "Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification"]
NORMS = {"group": {}, "layer": dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)}
SILENT = dict(
    hidden_dropout=0.0,
    activation_dropout=0.0,
    attention_dropout=0.0,
    final_dropout=0.0,
    layerdrop=0.0,
    mask_time_prob=0.3,
)
CONV = dict(conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2))


def reference(head: str, norm: str = "group", **changes):
    config = dict(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=[16, 12, 8],
        conv_stride=[5, 2, 2],
        conv_kernel=[10, 3, 3],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=10,
        codevector_dim=8,
        proj_codevector_dim=12,
        num_negatives=5,
        mask_time_length=3,
        classifier_proj_size=20,
        **({"num_labels": LABELS} if head == "Wav2Vec2ForSequenceClassification" else {}),
        attn_implementation="eager",
        **SILENT,
    )
    return perturbed(head, transformers.Wav2Vec2Config(**{**config, **NORMS[norm], **changes}))


def inputs(masked: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    heard = np.arange(SAMPLES) < LENGTHS[:, None]
    arrays = {"input_values": (rng.normal(size=(BATCH, SAMPLES)) * heard).astype(np.float32)}
    return {**arrays, "attention_mask": heard.astype(np.int32)} if masked else arrays


def given(arrays) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x) for name, x in arrays.items()}


def frames() -> np.ndarray:
    """Which frames of the inputs are heard."""
    config = wav2vec2.Wav2Vec2Config(conv_dim=(1, 1, 1), **CONV)
    return np.arange(config.frames(SAMPLES)) < config.frames(LENGTHS)[:, None]


def check(worst: dict[str, float]) -> None:
    over = {name: error for name, error in worst.items() if not error < 1e-4}
    assert not over, over


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_the_encoder(norm, masked, tmp_path):
    arrays = inputs(masked)
    heard = frames() if masked else np.ones_like(frames())
    hidden = jnp.asarray(np.random.default_rng(1).random(frames().shape) < 0.3)

    def their_loss(outputs):
        return (torch.sin(outputs.last_hidden_state) * torch.tensor(heard[..., None])).sum() / 100

    theirs = reference("Wav2Vec2Model", norm)
    forward = theirs.forward
    theirs.forward = lambda *args, mask_time_indices=None, **kwargs: forward(
        *args, mask_time_indices=None if mask_time_indices is None else mask_time_indices.bool(), **kwargs
    )
    worst, _ = differences(
        theirs,
        tmp_path,
        {**arrays, "mask_time_indices": hidden.astype(np.int32)},
        their_loss,
        lambda outputs: (jnp.sin(outputs["last_hidden_state"]) * heard[..., None]).sum() / 100,
        where=heard,
    )
    assert {"hidden_states", "attentions", "extract_features", "last_hidden_state"} <= set(worst)
    check(worst)


@pytest.mark.parametrize("norm", NORMS)
def test_transcription(norm, tmp_path):
    arrays, rng = inputs(), np.random.default_rng(1)
    labels = rng.integers(3, 30, (BATCH, 6))
    labels[1, 3:] = IGNORED
    labels[0, 2] = labels[0, 1]
    objective, lengths = Ctc(**CONV, hidden_size=32), jnp.asarray(frames().sum(axis=1))
    worst, _ = differences(
        reference("Wav2Vec2ForCTC", norm),
        tmp_path,
        arrays,
        {"labels": labels},
        lambda outputs: objective.loss(outputs, {"logit_lengths": lengths, "labels": jnp.asarray(labels)})["ctc_loss"][
            0
        ],
        where=frames(),
    )
    assert "logits" in worst
    check(worst)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_classification(norm, weighted, tmp_path):
    arrays, labels = inputs(), np.arange(BATCH) % LABELS

    def our_loss(outputs):
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(labels))
        return amount / weight

    worst, _ = differences(
        reference("Wav2Vec2ForSequenceClassification", norm, use_weighted_layer_sum=weighted),
        tmp_path,
        arrays,
        {"labels": labels},
        our_loss,
        where=frames(),
    )
    assert "logits" in worst
    check(worst)


def drawn(objective: Contrastive, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The inputs as the objective corrupts them, step 100,000."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(BATCH))
    batch = {name: jnp.asarray(x) for name, x in arrays.items()}
    return jax.vmap(objective.corrupt)(keys, {**batch, "step": jnp.full(BATCH, 100_000)})


def by_frame(seen: dict[str, jax.Array]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, negatives and noise for all frames, as `transformers` wants them."""
    mask = np.asarray(seen["mask_time_indices"])
    positions, asked = np.asarray(seen["masked_positions"]), np.asarray(seen["labels"]) != IGNORED
    drawn, given = np.asarray(seen["sampled_negative_indices"]), np.asarray(seen["gumbel_noise"])
    negatives = np.zeros((*mask.shape, drawn.shape[-1]), np.int64)
    noise = np.zeros((*mask.shape, *given.shape[2:]), np.float32)
    for row in range(BATCH):
        negatives[row] = row * mask.shape[1]
        for place in np.flatnonzero(asked[row]):
            frame = positions[row, place]
            assert mask[row, frame]
            negatives[row, frame] = positions[row, drawn[row, place]] + row * mask.shape[1]
            noise[row, frame] = given[row, place]
    return mask, negatives, noise


def straight_through(noise: np.ndarray, temperature: float):
    """`torch.nn.functional.gumbel_softmax` with this noise, whose forward value is exactly a one-hot vector."""

    def gumbel_softmax(logits, tau, hard):
        assert hard and tau == temperature
        soft = ((logits + torch.tensor(noise).reshape(logits.shape)) / tau).softmax(-1)
        one = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
        return one + (soft - soft.detach())

    return gumbel_softmax


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_pretraining_and_its_quantiser(norm, training, tmp_path, monkeypatch):
    """Losses, perplexity and gradients with the same masks, distractors and Gumbel noise."""
    theirs = reference("Wav2Vec2ForPreTraining", norm)
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    objective = Contrastive(
        **CONV, mask_time_prob=0.5, mask_time_length=3, num_negatives=5, groups=2, codes=10, feature_penalty_weight=0.0
    )
    arrays = inputs()
    seen = drawn(objective, arrays)
    mask, negatives, noise = by_frame(seen)
    temperature = float(seen["gumbel_temperature"][0])
    assert temperature == pytest.approx(2 * 0.999995**100_000, rel=1e-4)
    theirs.train(training).set_gumbel_temperature(temperature)
    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", straight_through(noise, temperature))
    theirs.config.mask_feature_prob = 0.0
    expected = theirs(
        **tensors(arrays), mask_time_indices=torch.tensor(mask), sampled_negative_indices=torch.tensor(negatives)
    )
    (expected.loss / int(mask.sum())).backward()
    taken = {name: seen[name] for name in model.inputs if name in seen}
    keys = jax.random.split(jax.random.key(0), BATCH) if training else None

    def loss(params):
        outputs = model.apply({"params": params}, **taken, dropout_keys=keys)
        losses = objective.losses(objective.sums(outputs, seen))
        return sum(losses.values()), (losses, outputs)

    (value, (losses, outputs)), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    at = np.asarray(seen["masked_positions"])[..., None]
    asked = np.asarray(seen["labels"]) != IGNORED
    worst = {"contrastive": difference(losses["contrastive_loss"], expected.contrastive_loss / int(mask.sum()))}
    for name in ("projected_states", "projected_quantized_states"):
        their = np.take_along_axis(expected[name].detach().numpy(), at, axis=1)
        worst[name] = difference(np.asarray(outputs[name])[asked], their[asked])
    if training:  # else their perplexity is that of the likeliest codes
        worst["loss"] = difference(value, expected.loss / int(mask.sum()))
        found = 20 * (1 - losses["diversity_loss"] / objective.diversity_loss_weight)
        worst["perplexity"] = difference(found, expected.codevector_perplexity)
        worst |= gradient_differences(theirs, model, gradients)
        assert float(np.abs(gradients["quantizer"]["weight_proj"]["kernel"]).max()) > 0
    check(worst)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, norm, tmp_path):
    round_trip(reference(head, norm), tmp_path)


def test_both_spellings_of_weight_normalisation_load(tmp_path):
    theirs = reference("Wav2Vec2Model")
    theirs.save_pretrained(tmp_path)
    outputs = []
    for old in (False, True):
        state = load_file(tmp_path / "model.safetensors")
        if old:
            names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
            for new, name in names.items():
                state = {key.replace(new, name): x for key, x in state.items()}
            assert any(key.endswith("weight_g") for key in state)
            save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model, variables = hub.load(tmp_path)
        outputs.append(model.apply(variables, **given(inputs())).last_hidden_state)
    np.testing.assert_array_equal(*outputs)


def test_every_head_is_compared():
    ours = {name for name in vars(wav2vec2) if "For" in name or name.endswith("Model")}
    assert ours == set(HEADS)
