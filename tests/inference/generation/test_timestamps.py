"""Texts with timestamps: what stands between which, written the slow obvious way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from inference.generation import GenerationConfig, generate
from models.config import ModelError
from models.whisper import WhisperConfig, WhisperForConditionalGeneration
from tests.models.small_configs import SMALL

END, UNSTAMPED = 36, 39
BEGIN = UNSTAMPED + 1
CONFIG = WhisperConfig.from_json(SMALL["whisper"], init_std=0.8, eos_token_id=END)
MODEL = WhisperForConditionalGeneration(CONFIG)
ROWS = 12


@pytest.fixture(scope="module")
def heard():
    variables = nn.unbox(MODEL.init(jax.random.key(3), **MODEL.blank()))
    sound = jax.random.normal(jax.random.key(1), (ROWS, CONFIG.frames, CONFIG.num_mel_bins))
    return variables, MODEL.apply(variables, sound, room=17, method="encode")


@pytest.mark.parametrize("draws", [{}, {"do_sample": True, "temperature": 2.0, "top_k": 0}, {"num_beams": 3}])
def test_order_of_times_and_texts(heard, draws):
    variables, cache = heard
    settings = GenerationConfig.from_json(
        {},
        return_timestamps=True,
        no_timestamps_token_id=UNSTAMPED,
        max_initial_timestamp_index=6,
        max_new_tokens=16,
        **draws,
    )
    prompts = jnp.full((ROWS, 1), 3, jnp.int32)
    texts = generate(MODEL, variables, prompts, settings=settings, past_key_values=cache, key=jax.random.key(2))
    lengths, seen = np.asarray(texts.lengths), 0
    for row, length in zip(np.asarray(texts.sequences)[:, 1:], lengths, strict=True):
        row = [int(token) for token in row[:length]]
        assert BEGIN <= row[0] <= BEGIN + 6 and UNSTAMPED not in row
        times = [token for token in row if token >= BEGIN]
        assert times == sorted(times)
        after_time, paired = True, True  # the first one begins a stretch
        for token in row[1:]:
            if token >= BEGIN:
                assert not (after_time and paired)
                after_time, paired = True, after_time
            else:
                assert paired or not after_time or token >= END
                after_time, seen = False, seen + 1
    assert seen  # there is text at all


def test_times_need_to_know_where_they_begin():
    with pytest.raises(ModelError, match="no_timestamps_token_id is missing"):
        GenerationConfig(return_timestamps=True)
    with pytest.raises(ModelError, match="no_timestamps_token_id names token 99, and the model has 60"):
        GenerationConfig(no_timestamps_token_id=99).check_vocabulary(60)


def test_an_encoders_output_serves_twice(heard):
    """As where a text is drawn again at another temperature."""
    variables, cache = heard
    prompts = jnp.full((ROWS, 1), 3, jnp.int32)
    one, other = (
        generate(MODEL, variables, prompts, settings=GenerationConfig(max_new_tokens=9), past_key_values=cache)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.sequences, other.sequences)


def test_log_probabilities_that_the_rules_leave(heard):
    """Those of tokens drawn at a temperature are those without it."""
    variables, cache = heard
    prompts = jnp.full((ROWS, 1), 3, jnp.int32)
    settings = GenerationConfig(do_sample=True, temperature=0.5, top_k=3, max_new_tokens=9, suppress_tokens=(11, 12))
    drawn = generate(
        *(MODEL, variables, prompts),
        settings=settings,
        past_key_values=cache,
        key=jax.random.key(0),
        log_probabilities="ruled",
    )
    sound = jax.random.normal(jax.random.key(1), (ROWS, CONFIG.frames, CONFIG.num_mel_bins))
    logits = MODEL.apply(variables, sound, drawn.sequences[:, :-1]).logits.at[..., jnp.array([11, 12])].set(-jnp.inf)
    logs = jax.nn.log_softmax(logits)
    expected = np.take_along_axis(np.asarray(logs), np.asarray(drawn.sequences)[:, 1:, None], axis=2)[..., 0]
    for row, length in enumerate(np.asarray(drawn.lengths)):
        np.testing.assert_allclose(drawn.log_probabilities[row, :length], expected[row, :length], atol=1e-4)
