"""What BART, mBART, Marian and the Transformer see, and how they decode token by token."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from models import bart, hub, t5
from models.config import ModelError
from models.model import products
from tests.models.text.encoder_decoders import BART, GENERATORS, SOURCE, T5, TARGET, ids, variables_of

# ── What sees what ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["bart", "mbart", "transformer"])
def test_who_sees_whom(name):
    """By gradients: a written token depends on those before it and on every token read that is not masked, no others."""
    model = hub.model_class(name, {"bart": "Bart", "mbart": "MBart", "transformer": "Transformer"}[name] + "Model")(
        GENERATORS[name].config
    )
    params = variables_of(model)["params"]
    source, target = jnp.arange(10, 10 + SOURCE)[None], jnp.arange(30, 30 + TARGET)[None]
    mask = jnp.ones((1, SOURCE), jnp.int32).at[0, jnp.array([0, 7])].set(0)

    def hidden(table):
        """Of `last_hidden_state` a number per place that depends on all of its features."""
        outputs = model.apply({"params": {**params, "shared": {"embedding": table}}}, source, mask, target)
        return jnp.sin(3 * outputs.last_hidden_state[0]).sum(axis=-1)

    jacobian = np.abs(jax.jit(jax.jacobian(hidden))(params["shared"]["embedding"])).max(axis=2)
    np.testing.assert_array_equal(jacobian[:, 30 : 30 + TARGET] > 0, np.tri(TARGET, dtype=bool))
    read = np.broadcast_to(np.asarray(mask[0]) > 0, (TARGET, SOURCE))
    np.testing.assert_array_equal(jacobian[:, 10 : 10 + SOURCE] > 0, read)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("padded", [slice(6, None), slice(0, 3)], ids=["right", "left"])
def test_padded_places_influence_no_other(padded):
    variables = variables_of(BART)
    mask = jnp.ones((4, SOURCE), jnp.int32).at[:, padded].set(0)
    others = jnp.where(mask == 1, ids(), ids(seed=2))
    apply = jax.jit(lambda text, mask, target, written: BART.apply(variables, text, mask, target, written).logits)
    target = ids(SOURCE, seed=3)
    other_target = jnp.where(mask == 1, target, ids(seed=4))
    one = apply(ids(), mask, target, mask)[mask == 1]
    np.testing.assert_array_equal(apply(others, mask, other_target, mask)[mask == 1], one)
    assert np.abs(apply(others, jnp.ones_like(mask), target, mask)[mask == 1] - one).max() > 1e-2


@pytest.mark.slow
def test_classification_reads_the_last_end_of_the_text():
    model = bart.BartForSequenceClassification(BART.config)
    variables = variables_of(model)
    text = ids().at[:, 8].set(2).at[1, 4].set(2).at[2, 8].set(1).at[2, 5].set(2)
    mask = (text != 1).astype(jnp.int32)
    logits = model.apply(variables, text, mask).logits
    alone = model.apply(variables, text[2:3, :6]).logits
    np.testing.assert_allclose(logits[2:3], model.apply(variables, text[2:3, :8], mask[2:3, :8]).logits, atol=1e-5)
    np.testing.assert_allclose(alone, model.apply(variables, text[2:3], mask[2:3].at[:, 6:].set(0)).logits, atol=1e-5)
    with pytest.raises(ModelError, match="input_ids is missing: BartForSequenceClassification looks for the end"):
        cache = model.apply(variables, text, room=SOURCE, method="encode")
        model.apply(variables, decoder_input_ids=text, past_key_values=cache)


# ── Decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", GENERATORS)
def test_decoding_in_one_compiled_loop(name):
    """Each step one token on the cache that `encode` makes; and without a cache, all at once."""
    model, steps = GENERATORS[name], 8
    variables, text = variables_of(model), ids()
    mask = jnp.ones_like(text).at[2, 4:].set(0)
    written = ids(steps, seed=1)

    def step(cache, token):
        outputs = model.apply(variables, decoder_input_ids=token[:, None], past_key_values=cache)
        return outputs.past_key_values, outputs.logits[:, 0]

    cache = model.apply(variables, text, mask, room=steps, method="encode")
    assert int(cache.length) == 0 and cache.memory_keys.shape == (3, 4, 2, SOURCE, 16)
    cache, logits = jax.jit(lambda cache: jax.lax.scan(step, cache, written.T))(cache)
    assert int(cache.length) == steps
    np.testing.assert_allclose(logits.swapaxes(0, 1), model.apply(variables, text, mask, written).logits, atol=1e-5)


def sizes(program: Jaxpr) -> Iterator[int]:
    """Of all arrays in a program."""
    for equation in program.eqns:
        yield from (x.aval.size for x in (*equation.invars, *equation.outvars))
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from sizes(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", [*GENERATORS.values(), t5.T5ForConditionalGeneration(T5)], ids=[*GENERATORS, "t5"])
def test_an_encoder_is_read_without_decoding(model):
    """Only keys and values of its output are made: no array is empty, and no product but 4 H·width·S in a decoder's layer."""
    program = jax.make_jaxpr(lambda v: model.apply(v, ids(), room=5, method="encode"))(variables_of(model)).jaxpr
    assert min(sizes(program)) > 0
    config = model.config
    width = config.num_heads * config.d_kv if isinstance(config, t5.T5Config) else config.d_model
    inner = config.d_ff if isinstance(config, t5.T5Config) else config.encoder_ffn_dim
    per_token = 8 * config.d_model * width + 4 * config.d_model * inner + 4 * width * SOURCE
    encoder = config.encoder_layers * SOURCE * per_token
    assert products(program) == 4 * (encoder + config.decoder_layers * 4 * config.d_model * width * SOURCE)


def test_what_cannot_be_decoded_is_refused():
    variables, text = variables_of(BART), ids()
    cache = BART.apply(variables, text, room=4, method="encode")
    for inputs, message in (
        ({}, "input_ids is missing"),
        ({"decoder_input_ids": text}, "input_ids is missing"),
        ({"past_key_values": cache}, "decoder_input_ids is missing: with past_key_values"),
        ({"input_ids": text, "past_key_values": cache}, "leave out input_ids and attention_mask"),
        ({"input_ids": ids(21)}, "21 tokens do not fit a model with max_position_embeddings=20"),
        ({"input_ids": text, "decoder_input_ids": ids(21)}, "21 tokens do not fit"),
    ):
        with pytest.raises(ModelError, match=message):
            BART.apply(variables, **inputs)
    with pytest.raises(ModelError, match="21 tokens do not fit"):
        BART.config.empty_cache(1, 21)
    with pytest.raises(ModelError, match="9 tokens at once do not fit a cache with room for 4: make it larger"):
        BART.apply(variables, decoder_input_ids=text, past_key_values=cache)


def test_sinusoids_have_no_end():
    model = GENERATORS["transformer"]
    assert model.config.longest_input is None
    assert model.apply(variables_of(model), ids(50)).logits.shape == (4, 50, 60)
