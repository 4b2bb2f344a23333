"""T5 held against what must be true of it, and packed pairs of texts in all encoder-decoders, without a reference."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import bart, marian, t5
from models.config import ModelError
from models.encoder_decoder.inputs import places_within
from models.t5 import T5Config

V1 = T5Config(
    vocab_size=60,
    d_model=32,
    d_kv=6,
    d_ff=48,
    num_layers=2,
    num_decoder_layers=3,
    num_heads=4,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
)
V1_1 = dataclasses.replace(V1, feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)
BARTS = dict(vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48, decoder_ffn_dim=40)
BARTS |= dict(encoder_attention_heads=4, decoder_attention_heads=2, max_position_embeddings=20, init_std=0.2)
T5S = {"t5": t5.T5ForConditionalGeneration(V1), "t5 1.1": t5.T5ForConditionalGeneration(V1_1)}
PACKING = {
    **T5S,
    "bart": bart.BartForConditionalGeneration(bart.BartConfig(**BARTS)),
    "marian": marian.MarianMTModel(marian.MarianConfig(**BARTS, pad_token_id=1, decoder_start_token_id=2)),
}
READ, WRITTEN = 9, 6


@functools.cache
def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def ids(length: int, rows: int = 3, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, 60, (rows, length)), jnp.int32)


def count_of(model: nn.Module) -> int:
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


COUNTS = {
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_11b": 11_307_321_344,
    "v1_1_small": 76_961_152,
    "v1_1_base": 247_577_856,
    "v1_1_large": 783_150_080,
    "v1_1_xl": 2_849_757_184,
    "v1_1_xxl": 11_135_332_352,
}
ENCODERS = {"small": 35_330_816, "base": 109_628_544, "large": 334_939_648, "t5_3b": 1_240_909_824}


@pytest.mark.parametrize("variant", T5Config.variants)
def test_parameter_counts_of_the_published_variants(variant):
    config = T5Config.variant(variant)
    assert count_of(t5.T5ForConditionalGeneration(config)) == COUNTS[variant]
    if variant in ENCODERS:
        assert count_of(t5.T5EncoderModel(config)) == ENCODERS[variant]
    table = 0 if config.tie_word_embeddings else config.vocab_size * config.d_model
    assert count_of(t5.T5Model(config)) == COUNTS[variant] - table


def outputs_and_gradients(name: str, **settings) -> dict[str, jax.Array]:
    variables = variables_of(T5S[name])
    model = t5.T5ForConditionalGeneration(dataclasses.replace(T5S[name].config, **settings))
    mask = jnp.ones((3, READ), jnp.int32).at[1, 5:].set(0)

    def loss(params):
        outputs = model.apply(
            {"params": params},
            ids(READ),
            mask,
            ids(WRITTEN, seed=1),
            dropout_keys=jax.random.split(jax.random.key(5), 3),
            output_hidden_states=True,
            output_attentions=True,
        )
        return jnp.sin(outputs.logits).sum(), dict(outputs)

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"outputs": outputs, "gradients": gradients}, sep="/")


plain = functools.cache(outputs_and_gradients)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scan_layers", "remat"), [("t5", True, "none"), ("t5 1.1", True, "dots"), ("t5", False, "full")]
)
def test_scan_and_remat_change_no_number(name, scan_layers, remat):
    found = outputs_and_gradients(name, scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain(name))
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain(name)[path]).max()))
        np.testing.assert_allclose(value, plain(name)[path], rtol=0, atol=1e-5 * scale, err_msg=path)


@pytest.mark.parametrize("config", [V1, V1_1], ids=["1.0", "1.1"])
def test_who_sees_whom(config):
    """By gradients: a written token depends on those before it and on every token read that is not masked, no others."""
    model = t5.T5Model(config)
    params = variables_of(model)["params"]
    source, target = jnp.arange(10, 10 + READ)[None], jnp.arange(30, 30 + WRITTEN)[None]
    mask = jnp.ones((1, READ), jnp.int32).at[0, jnp.array([0, 7])].set(0)

    def hidden(table):
        outputs = model.apply({"params": {**params, "shared": {"embedding": table}}}, source, mask, target)
        both = outputs.last_hidden_state[0], outputs.encoder_last_hidden_state[0]
        return jnp.concatenate([jnp.sin(3 * x).sum(axis=-1) for x in both])

    jacobian = np.abs(jax.jit(jax.jacobian(hidden))(params["shared"]["embedding"])).max(axis=2)
    seen = np.broadcast_to(np.asarray(mask[0]) > 0, (WRITTEN, READ))
    np.testing.assert_array_equal(jacobian[:WRITTEN, 30 : 30 + WRITTEN] > 0, np.tri(WRITTEN, dtype=bool))
    np.testing.assert_array_equal(jacobian[:WRITTEN, 10 : 10 + READ] > 0, seen)
    encoded = jacobian[WRITTEN:]
    assert (encoded[:, 30:] == 0).all()  # the encoder knows nothing of what is written
    np.testing.assert_array_equal(encoded[seen[0], 10 : 10 + READ] > 0, np.broadcast_to(seen[0], (READ - 2, READ)))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", T5S)
def test_a_cache_changes_no_number(name):
    model = T5S[name]
    variables, text, written = variables_of(model), ids(READ), ids(WRITTEN, seed=1)
    mask = jnp.ones_like(text).at[2, 4:].set(0)
    expected = model.apply(variables, text, mask, written).logits
    cache = model.apply(variables, text, mask, room=WRITTEN + 2, method="encode")
    step = jax.jit(lambda cache, token: model.apply(variables, decoder_input_ids=token, past_key_values=cache))
    found = []
    for place in range(WRITTEN):
        outputs = step(cache, written[:, place : place + 1])
        cache = outputs.past_key_values
        found.append(outputs.logits)
    found, scale = np.concatenate(found, axis=1), float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, scale))


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKING)
def test_packed_pairs_are_what_they_are_alone(name):
    """Three pairs in a row, of which the last is padding behind them; values, and the gradients of the parameters."""
    model, read, written = PACKING[name], (4, 2, 3), (2, 3, 1)
    source, target = ids(READ, 1), ids(WRITTEN, 1, seed=1)
    segments = [jnp.asarray(np.repeat([1, 2, 0], lengths))[None] for lengths in (read, written)]
    begins = [np.cumsum([0, *lengths])[:3] for lengths in (read, written)]
    pieces = list(zip(*(itertools.pairwise(x) for x in begins), strict=True))

    def packed(params):
        logits = model.apply(
            {"params": params},
            source,
            decoder_input_ids=target,
            segment_ids=segments[0],
            decoder_segment_ids=segments[1],
        ).logits[:, : sum(written[:2])]
        return jnp.sin(logits).sum(), logits

    def alone(params):
        logits = [
            model.apply({"params": params}, source[:, a:b], decoder_input_ids=target[:, c:d]).logits
            for (a, b), (c, d) in pieces
        ]
        logits = jnp.concatenate(logits, axis=1)
        return jnp.sin(logits).sum(), logits

    params = variables_of(model)["params"]
    found, expected = (jax.jit(jax.grad(f, has_aux=True))(params) for f in (packed, alone))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1.0, float(np.abs(other).max())))
    unaware = model.apply({"params": params}, source, decoder_input_ids=target).logits[:, : sum(written[:2])]
    assert np.abs(unaware - found[1]).max() > 1e-2


def test_places_begin_anew_in_every_segment():
    segments = jnp.array([[3, 3, 3, 1, 1, 3, 0], [0, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(places_within(segments), [[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 2, 3, 4, 5]])


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_segments_that_cannot_be(name):
    model, text = PACKING[name], ids(READ)
    apply = functools.partial(model.apply, variables_of(model), text, decoder_input_ids=text)
    with pytest.raises(ModelError, match="segment_ids and decoder_segment_ids belong together"):
        apply(segment_ids=text)
    with pytest.raises(ModelError, match="which past_key_values cannot hold"):
        cache = model.config.empty_cache(3, READ)
        apply(segment_ids=text, decoder_segment_ids=text, past_key_values=cache)
