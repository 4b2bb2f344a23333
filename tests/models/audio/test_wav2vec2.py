"""Wav2Vec2: published shapes, how utterances are kept apart from their padding, and what is refused."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.config import ModelError
from models.wav2vec2 import (
    GumbelQuantizer,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)

SMALL = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8, 8, 8),
    conv_kernel=(10, 3, 3),
    conv_stride=(5, 2, 2),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    num_codevectors_per_group=6,
    codevector_dim=8,
    proj_codevector_dim=8,
)
LAYER = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
COUNTS = {
    "base": (94_371_712, 95_044_608, 94_396_320, 94_569_090),
    "large": (315_428_992, 317_380_864, 315_461_792, 315_691_906),
    "large_lv60": (315_438_720, 317_390_592, 315_471_520, 315_701_634),
}
HEADS = (Wav2Vec2Model, Wav2Vec2ForPreTraining, Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification)


@pytest.mark.parametrize("variant", COUNTS)
def test_published_parameter_counts(variant):
    config = dataclasses.replace(Wav2Vec2Config.variant(variant), scan_layers=True)
    counts = [sum(x.size for x in hub.shapes_of(head(config)).values()) for head in HEADS]
    assert tuple(counts) == COUNTS[variant]


def test_frames_and_samples():
    config = Wav2Vec2Config.base()
    assert config.frames(400) == 1 and config.frames(399) == 0 and config.frames(16_000) == 49
    assert config.samples(1) == 400 and config.samples(2) == 720
    for frames in (1, 2, 50):
        assert config.frames(config.samples(frames)) == frames > config.frames(config.samples(frames) - 1)


@pytest.mark.slow
def test_an_utterance_alone_is_the_same_as_beside_a_longer_one():
    """With layer norms; a group norm is over the padding, too."""
    config = Wav2Vec2Config(**SMALL, **LAYER)
    model = Wav2Vec2Model(config)
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    samples = np.random.default_rng(0).normal(size=(2, 900)).astype(np.float32)
    samples[0, 500:] = 7.0  # whatever lies there
    samples, mask = jnp.asarray(samples), (jnp.arange(900)[None] < jnp.array([[500], [900]])).astype(jnp.int32)
    frames = config.frames(500)
    # A frame of the padded utterance sees its own samples alone: so many of them whole.
    beside = model.apply(variables, samples, mask).last_hidden_state[0, :frames]
    alone = model.apply(variables, samples[:1, :500], mask[:1, :500]).last_hidden_state[0]
    np.testing.assert_allclose(beside, alone, atol=2e-6)
    longer = model.apply(variables, samples, jnp.ones_like(mask)).last_hidden_state[0, :frames]
    assert np.abs(longer - alone).max() > 1e-3


def test_masked_frames_show_nothing_of_what_was_there():
    config = Wav2Vec2Config(**SMALL, **LAYER)
    model = Wav2Vec2Model(config)
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    samples = jnp.asarray(np.random.default_rng(0).normal(size=(1, 900)), jnp.float32)
    frames = config.frames(900)
    everything = jnp.ones((1, frames), bool)
    one, other = (model.apply(variables, x, mask_time_indices=everything) for x in (samples, samples[:, ::-1]))
    np.testing.assert_array_equal(one.last_hidden_state, other.last_hidden_state)
    assert np.abs(one.extract_features - other.extract_features).max() > 0.1, "the quantiser sees them"


@pytest.mark.parametrize("noisy", [True, False])
def test_the_quantiser_chooses_a_vector_of_each_codebook(noisy):
    config = Wav2Vec2Config(**SMALL)
    quantizer = GumbelQuantizer(config)
    features = jax.random.normal(jax.random.key(0), (2, 5, 8))
    variables = nn.unbox(quantizer.init(jax.random.key(1), features))
    noise = 3 * jax.random.gumbel(jax.random.key(2), (2, 5, 2, 6)) if noisy else None
    found = quantizer.apply(variables, features, noise, jnp.full(2, 0.7))
    kernel, bias = variables["params"]["weight_proj"]["kernel"], variables["params"]["weight_proj"]["bias"]
    logits = (features @ kernel + bias[None, None]).reshape(2, 5, 2, 6)
    chosen = np.argmax(logits + (0 if noise is None else noise), axis=-1)
    books = np.asarray(variables["params"]["codevectors"])
    np.testing.assert_array_equal(found.indices, chosen)
    wanted = np.concatenate([books[group][chosen[..., group]] for group in (0, 1)], axis=-1)
    np.testing.assert_array_equal(found.vectors, wanted)
    gradient = jax.grad(lambda x: quantizer.apply(variables, x, noise, jnp.full(2, 0.7)).vectors.sum())(features)
    assert bool((np.abs(gradient) > 0).any()) == noisy


def test_a_layer_is_skipped_for_some_examples_alone():
    config = Wav2Vec2Config(
        **SMALL, **LAYER, layerdrop=0.5, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
    )
    model = Wav2Vec2Model(config)
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    samples = jnp.tile(jax.random.normal(jax.random.key(1), (1, 300)), (64, 1))
    keys = jax.random.split(jax.random.key(2), 64)
    states = model.apply(variables, samples, dropout_keys=keys, output_hidden_states=True).hidden_states
    skipped = (states[1:] == states[:-1]).all(axis=(2, 3))
    assert 40 < skipped.sum() < 88 and (skipped.any(axis=0) & ~skipped.all(axis=0)).any()


@pytest.mark.slow
def test_the_gradient_of_the_convolutions_is_scaled():
    gradients = []
    for factor in (1.0, 0.1):
        model = Wav2Vec2Model(Wav2Vec2Config(**SMALL, feature_grad_mult=factor))
        variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
        samples = jax.random.normal(jax.random.key(1), (1, 300))
        gradients.append(jax.grad(lambda v: model.apply(v, samples).last_hidden_state[0, 0].sum())(variables)["params"])  # noqa: B023
    whole, scaled = (x["feature_extractor"]["conv_0"]["kernel"] for x in gradients)
    np.testing.assert_allclose(0.1 * whole, scaled, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(*(x["feature_projection"]["projection"]["kernel"] for x in gradients))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(feat_extract_norm="batch"), "expected group or layer"),
        (dict(conv_dim=(8, 8)), "one number each for each convolution"),
        (dict(num_attention_heads=3), "does not divide into num_attention_heads=3"),
        (dict(codevector_dim=7), "does not divide into num_codevector_groups=2"),
        (dict(layerdrop=1.0), "expected a number below 1"),
    ],
)
def test_impossible_configs_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        Wav2Vec2Config(**{**SMALL, **changes})


def test_what_does_not_fit_is_refused():
    config = Wav2Vec2Config(**SMALL)
    with pytest.raises(ModelError, match="add_adapter=True"):
        Wav2Vec2Config.from_json({"add_adapter": True})
    with pytest.raises(ModelError, match=r"shape \(1, 20\): .* at least 40 samples"):
        Wav2Vec2Model(config).init(jax.random.key(0), jnp.zeros((1, 20)))
    with pytest.raises(ModelError, match="mask_time_indices of shape"):
        Wav2Vec2Model(config).init(jax.random.key(0), jnp.zeros((1, 300)), None, jnp.zeros((1, 3), bool))
    none = Wav2Vec2Config(**SMALL, mask_time_prob=0.0)
    with pytest.raises(ModelError, match="masks nothing"):
        Wav2Vec2Model(none).init(jax.random.key(0), jnp.zeros((1, 300)), None, jnp.zeros((1, none.frames(300)), bool))
