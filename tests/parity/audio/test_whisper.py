"""Whisper against live `transformers`: every parameter perturbed, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub, whisper
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, TARGET, MELS, PLACES, VOCABULARY, LABELS, PAD = 3, 9, 6, 10, 99, 5, 90
SHAPE = dict(
    vocab_size=VOCABULARY,
    num_mel_bins=MELS,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=48,
    decoder_ffn_dim=40,
    max_source_positions=PLACES,
    max_target_positions=24,
    classifier_proj_size=12,
    pad_token_id=PAD,
    bos_token_id=91,
    eos_token_id=92,
    decoder_start_token_id=93,
    suppress_tokens=[3, 4],
    begin_suppress_tokens=[5, 92],
    num_labels=LABELS,
    attn_implementation="eager",
)
CLASSES = ["WhisperModel", "WhisperForConditionalGeneration", "WhisperForAudioClassification"]


def reference(name: str, **changes):
    return perturbed(name, transformers.WhisperConfig(**{**SHAPE, **changes}))


def inputs(padding: str = "right") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.ones((BATCH, TARGET), np.int32)
    if padding != "none":
        mask[1, TARGET - 4 :] = 0
    mask = mask[:, ::-1].copy() if padding == "left" else mask
    ids = np.where(mask > 0, rng.integers(3, PAD, (BATCH, TARGET)), PAD)
    features = rng.normal(size=(BATCH, 2 * PLACES, MELS)).astype(np.float32)
    return {"input_features": features, "decoder_input_ids": ids, "decoder_attention_mask": mask}


@pytest.mark.parametrize("padding", ["right", "none"])
def test_outputs_losses_and_gradients_of_what_writes(padding, tmp_path):
    arrays = inputs(padding)
    written = arrays["decoder_attention_mask"] > 0
    answers = np.random.default_rng(1).integers(3, PAD, (BATCH, TARGET))
    labels = {"labels": np.where(written, answers, IGNORED)}

    def our_loss(outputs):
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(labels["labels"]))
        return amount / weight

    where = {"encoder": np.ones((BATCH, PLACES), bool), "decoder": written}
    theirs = reference("WhisperForConditionalGeneration")
    worst, _ = differences(theirs, tmp_path, arrays, labels, our_loss, where, scan_layers=True)
    states = {f"{side}_{what}" for side in ("encoder", "decoder") for what in ("hidden_states", "attentions")}
    assert states | {"logits", "cross_attentions", "encoder_last_hidden_state"} < set(worst)
    if padding == "right":  # of queries at padding, which nothing depends on
        del worst["decoder_attentions"], worst["cross_attentions"]
    assert not {name: error for name, error in worst.items() if error > 1e-5}


@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_losses_and_gradients_of_a_classifier(weighted, tmp_path):
    labels = {"labels": np.arange(BATCH) % LABELS}

    def our_loss(outputs):
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(labels["labels"]))
        return amount / weight

    arrays = {"input_features": inputs()["input_features"]}
    theirs = reference("WhisperForAudioClassification", use_weighted_layer_sum=weighted)
    worst, _ = differences(theirs, tmp_path, arrays, labels, our_loss)
    assert {"logits", "hidden_states", "attentions", "loss"} < set(worst)
    assert not {name: error for name, error in worst.items() if error > 1e-5}


def test_prompts_padded_on_the_left(tmp_path):
    """As `generate` of `transformers` numbers their places."""
    arrays, theirs = inputs("left"), reference("WhisperModel")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    mask = arrays["decoder_attention_mask"]
    places = torch.tensor(np.maximum(mask.cumsum(axis=1) - 1, 0))
    expected = theirs(**tensors(arrays), decoder_position_ids=places).last_hidden_state
    found = model.apply(variables, **{name: jnp.asarray(x) for name, x in arrays.items()}).last_hidden_state
    assert difference(found, expected, mask > 0) < 1e-5


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("pieces", [(5, 1, 1, TARGET - 7), (1,) * TARGET])
def test_a_cache_changes_no_number(pieces, padding, tmp_path):
    theirs = reference("WhisperForConditionalGeneration")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    arrays = {name: jnp.asarray(x) for name, x in inputs(padding).items()}
    expected = model.apply(variables, **arrays).logits
    cache = model.apply(variables, arrays["input_features"], room=TARGET + 3, method="encode")
    step = jax.jit(lambda cache, **new: model.apply(variables, **new, past_key_values=cache))
    found, begin = [], 0
    for piece in pieces:
        part = {name: x[:, begin : begin + piece] for name, x in arrays.items() if name.startswith("decoder")}
        outputs = step(cache, **part)
        cache, begin = outputs.past_key_values, begin + piece
        found.append(outputs.logits)
    written = np.asarray(arrays["decoder_attention_mask"]) > 0
    assert difference(np.concatenate(found, axis=1), expected, written) < 1e-5


@pytest.mark.parametrize("name", CLASSES)
def test_round_trip_has_no_missing_and_no_unexpected_key(name, tmp_path):
    round_trip(reference(name), tmp_path)


def test_sinusoids_are_those_of_transformers():
    theirs = transformers.models.whisper.modeling_whisper.sinusoids(1_500, 384)
    np.testing.assert_allclose(whisper.sinusoids(None, (1_500, 384), jnp.dtype("float32")), theirs, rtol=0, atol=2e-4)


def test_every_class_is_compared():
    ours = {name for name in vars(whisper) if name.startswith("Whisper") and ("For" in name or name.endswith("Model"))}
    assert ours == set(CLASSES)
