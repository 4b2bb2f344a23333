"""Whisper held against what must be true of it, without a reference implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models import hub
from models.config import ModelError
from models.layers.axes import axes_of
from models.whisper import WhisperConfig, WhisperForAudioClassification, WhisperForConditionalGeneration, sinusoids
from tests.models.small_configs import SMALL
from training.transformations import decayed

CONFIG = WhisperConfig.from_json(SMALL["whisper"], init_std=0.2)
MODEL = WhisperForConditionalGeneration(CONFIG)
COUNTS = {
    "tiny": 37_760_640,
    "base": 72_593_920,
    "small": 241_734_912,
    "medium": 763_857_920,
    "large": 1_543_304_960,
    "large_v2": 1_543_304_960,
    "large_v3": 1_543_490_560,
    "turbo": 808_878_080,
    "tiny_en": 37_760_256,
    "base_en": 72_593_408,
    "small_en": 241_734_144,
    "medium_en": 763_856_896,
}
"""Parameters as published, the encoder's sinusoids among them."""


@pytest.fixture(scope="module")
def variables():
    return nn.unbox(MODEL.init(jax.random.key(0), **MODEL.blank()))


def sound(rows: int = 2) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(rows, CONFIG.frames, CONFIG.num_mel_bins)), jnp.float32)


def ids(length: int = 6, rows: int = 2) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).integers(10, 60, (rows, length)), jnp.int32)


@pytest.mark.parametrize("variant", WhisperConfig.variants)
def test_parameter_counts_of_the_published_variants(variant):
    config = WhisperConfig.variant(variant)
    assert sum(x.size for x in hub.shapes_of(WhisperForConditionalGeneration(config)).values()) == COUNTS[variant]
    assert config.d_model // config.encoder_attention_heads == config.d_model // config.decoder_attention_heads == 64


@pytest.mark.slow
def test_the_encoder_sees_all_of_the_sound_and_the_decoder_what_stands_before(variables):
    def loss(features, place):
        return MODEL.apply(variables, features, ids()).logits[:, place].sum()

    seen = jax.grad(loss)(sound(), 0)
    assert (jnp.abs(seen).sum(axis=2) > 0).all()
    changed = ids().at[:, 3].set(5)
    before, after = (MODEL.apply(variables, sound(), x).logits for x in (ids(), changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (jnp.abs(before - after)[:, 3:].max(axis=2) > 0).all()


def test_sinusoids_are_not_trained(variables):
    def loss(params):
        return jnp.sin(MODEL.apply({"params": params}, sound(), ids()).logits).mean()

    gradients = jax.grad(loss)(variables["params"])
    assert not gradients["model"]["encoder"]["position_embeddings"].any()
    assert gradients["model"]["decoder"]["position_embeddings"]["embedding"].any()
    decays = decayed(variables["params"], axes_of(MODEL.boxed_shapes()["params"]))["model"]
    assert not decays["encoder"]["position_embeddings"] and decays["encoder"]["conv1"]["kernel"]


def test_sinusoids_reach_both_wavelengths():
    table = np.asarray(sinusoids(None, (30, 8), jnp.dtype("float32")))
    for place in (0, 7, 29):
        rates = [1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4]
        expected = [wave(place * rate) for wave in (np.sin, np.cos) for rate in rates]
        np.testing.assert_allclose(table[place], expected, atol=1e-6)


def test_padding_before_a_prompt_changes_nothing(variables):
    text = ids(5)
    padded = jnp.pad(text, ((0, 0), (3, 0)))
    mask = jnp.pad(jnp.ones_like(text), ((0, 0), (3, 0)))
    expected = MODEL.apply(variables, sound(), text).logits
    found = MODEL.apply(variables, sound(), padded, mask).logits[:, 3:]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(decoder_input_ids=ids()), "input_features is missing"),
        (dict(input_features=sound()), "decoder_input_ids is missing"),
        (dict(input_features=sound()[:, :-1], decoder_input_ids=ids()), r"expected \(batch, 20 frames, 6 mels\)"),
        (dict(input_features=sound(), decoder_input_ids=ids(21)), "21 tokens do not fit a model with max_target_pos"),
    ],
)
def test_what_does_not_go_together_is_refused(variables, given, message):
    with pytest.raises(ModelError, match=message):
        MODEL.apply(variables, **given)


def test_a_cache_that_was_read_takes_no_sound(variables):
    cache = MODEL.apply(variables, sound(), room=4, method="encode")
    with pytest.raises(ModelError, match="leave out input_features"):
        MODEL.apply(variables, sound(), ids(1), past_key_values=cache)


def test_a_classifier_begins_with_the_encoder_of_what_writes(variables, tmp_path):
    hub.save(tmp_path, MODEL, variables)
    model, own = hub.load(tmp_path, architecture=WhisperForAudioClassification, initialize=jax.random.key(1))
    encoded = MODEL.apply(variables, sound(), ids()).encoder_last_hidden_state
    np.testing.assert_array_equal(
        own["params"]["encoder"]["conv1"]["kernel"], variables["params"]["model"]["encoder"]["conv1"]["kernel"]
    )
    assert model.apply(own, sound()).logits.shape == (2, 2) and encoded.shape == (2, CONFIG.max_source_positions, 16)
