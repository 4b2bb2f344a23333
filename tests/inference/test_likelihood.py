"""Log-probabilities of texts against the model asked token by token, and the windows of long ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.likelihood import AT_ONCE, batches, token_log_probabilities, windows
from models.bart import BartConfig, BartForConditionalGeneration
from models.config import ModelError
from models.gpt2 import GPT2Config, GPT2LMHeadModel

PAIRS = [([3], [4, 5, 6]), ([7, 8, 9, 10, 11], [12]), ([1] * 20, [2] * 11), ([13, 14], []), ([5], [6] * 31)]


def variables_of(model):
    return nn.unbox(model.init(jax.random.key(0), **{name: value for name, value in model.blank().items()}))


@pytest.fixture(scope="module")
def decoder():
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=30, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5)
    )
    return model, variables_of(model)


@pytest.mark.slow
def test_each_token_of_a_continuation(decoder):
    model, variables = decoder
    for (context, continuation), (values, likeliest) in zip(
        PAIRS, token_log_probabilities(model, variables, PAIRS), strict=True
    ):
        expected, best = [], []
        for place, token in enumerate(continuation):
            logits = model.apply(variables, jnp.asarray([[*context, *continuation[:place]]]))["logits"][0, -1]
            expected.append(float(jax.nn.log_softmax(logits)[token]))
            best.append(int(logits.argmax()) == token)
        np.testing.assert_allclose(values, expected, atol=2e-5)
        assert likeliest.tolist() == best


def test_of_an_encoder_decoder():
    model = BartForConditionalGeneration(
        BartConfig(
            **dict(vocab_size=30, d_model=16, encoder_layers=1, decoder_layers=1, init_std=0.5),
            **dict(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24),
            max_position_embeddings=32,
        )
    )
    variables, start = variables_of(model), 2
    for (source, written), (values, _) in zip(
        PAIRS, token_log_probabilities(model, variables, PAIRS, start), strict=True
    ):
        if written:
            ids = jnp.asarray([[start, *written[:-1]]])
            logits = model.apply(variables, jnp.asarray([source]), decoder_input_ids=ids)["logits"][0]
            expected = jax.nn.log_softmax(logits)[jnp.arange(len(written)), jnp.asarray(written)]
            np.testing.assert_allclose(values, expected, atol=2e-5)


def test_neighbours_change_nothing(decoder):
    model, variables = decoder
    together = token_log_probabilities(model, variables, PAIRS * 3)
    for pair, (values, _) in zip(PAIRS * 3, together, strict=True):
        np.testing.assert_allclose(token_log_probabilities(model, variables, [pair])[0][0], values, rtol=1e-6)


def test_what_does_not_fit(decoder):
    with pytest.raises(ModelError, match="33 tokens do not fit a model with room for 32"):
        token_log_probabilities(*decoder, [([1], [2] * 33)])
    with pytest.raises(ModelError, match="a context has no tokens"):
        token_log_probabilities(*decoder, [([], [2])])


def test_batches_take_each_row_once_and_hold_few_tokens():
    lengths = [5, 17, 200, 3_000, 16, 9] * 40
    cut = list(batches(lengths))
    assert sorted(place for places in cut for place in places) == list(range(len(lengths)))
    for places in cut:
        longest = max(lengths[place] for place in places)
        assert len(places) == 1 or len(places) * longest <= AT_ONCE
        assert longest <= 16 or min(lengths[place] for place in places) * 2 > longest


@pytest.mark.parametrize("context", [1, 3, 7])
@pytest.mark.parametrize("length", [1, 6, 7, 8, 15, 50])
def test_windows_predict_each_token_once(length, context):
    ids, longest = list(range(1, length + 1)), 7
    cut = list(windows(ids, 0, longest, context))
    assert [token for _, continuation in cut for token in continuation] == ids
    for number, (before, continuation) in enumerate(cut):
        whole = [*before, *continuation]
        assert whole == list(range(whole[0], whole[-1] + 1))
        assert len(whole) - 1 <= longest
        assert number == 0 or (len(before) >= context and len(whole) - 1 == longest)
