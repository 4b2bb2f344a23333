"""What Whisper writes, against `transformers`' `generate`, token by token: a tiny model with random parameters."""

import dataclasses

import jax
import numpy as np
import pytest

from inference.speech import Decoding, Listener, SpeechTokens
from inference.speech.listener import GenerationConfig, cut
from inference.speech.words import smoothed, warped
from models import hub
from tests.inference.speech.scripted import tokenizer
from tests.parity.reference import torch, transformers

END, UNSTAMPED, NEW, ROWS = 30, 38, 12, 12
SUPPRESSED = dict(suppress_tokens=[3, 4, 31, 32, 33], begin_suppress_tokens=[5, END])
TIMES = range(UNSTAMPED + 1, 60)


def keys() -> jax.Array:
    return jax.random.split(jax.random.key(0), ROWS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **dict(vocab_size=60, num_mel_bins=6, d_model=32, encoder_layers=2, decoder_layers=2),
        **dict(encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=40),
        **dict(max_source_positions=10, max_target_positions=24, pad_token_id=END, bos_token_id=END),
        **dict(eos_token_id=END, decoder_start_token_id=END + 1),
    )
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    published = theirs.generation_config
    published.no_timestamps_token_id, published.is_multilingual = UNSTAMPED, False
    published.max_initial_timestamp_index = 5
    published.update(**SUPPRESSED)
    folder = tmp_path_factory.mktemp("whisper")
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder)
    special = SpeechTokens(END + 1, END, {}, {}, UNSTAMPED, None, None)
    settings = GenerationConfig.from_json({**SUPPRESSED, "max_initial_timestamp_index": 5})
    return theirs, Listener(model, cut(model, variables), tokenizer(), special, settings)


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_same_tokens(pair, beams, timestamps):
    theirs, listener = pair
    features = np.random.default_rng(0).normal(size=(ROWS, 20, 6)).astype(np.float32)
    given = torch.tensor(features.transpose(0, 2, 1))
    more = {} if timestamps else {"suppress_tokens": [*SUPPRESSED["suppress_tokens"], *TIMES]}
    asked = dict(max_new_tokens=NEW, num_beams=beams, return_timestamps=timestamps, **more)
    expected = theirs.generate(given, **asked).tolist()
    prompt = listener.tokens.prompt(None, "transcribe", timestamps)
    settings = listener.settings(0.0, timestamps, Decoding(num_beams=beams))
    settings = dataclasses.replace(settings, **{name: tuple(tokens) for name, tokens in more.items()})
    found = listener.attempt(listener.encode(features), [prompt] * ROWS, settings, keys())
    for (tokens, _), row in zip(found, expected, strict=True):
        pairs = [place for place in range(1, len(tokens)) if min(tokens[place - 1 : place + 1]) > UNSTAMPED]
        whole = pairs[-1] + 1 if pairs else len(tokens)  # behind that theirs hear the next window
        while row and row[-1] == END:
            row.pop()
        assert row[:whole] == tokens[:whole] and (pairs or len(row) == len(tokens))
    assert len({tuple(tokens) for tokens, _ in found}) > 3


def test_the_same_mean_log_probability(pair):
    """That of the tokens and the end, under the rules."""
    theirs, listener = pair
    features = np.random.default_rng(1).normal(size=(ROWS, 20, 6)).astype(np.float32)
    prompt = listener.tokens.prompt(None, "transcribe", False)
    settings = listener.settings(0.0, False, Decoding())
    found = listener.attempt(listener.encode(features), [prompt] * ROWS, settings, keys())
    for row, (tokens, average) in enumerate(found):
        ended = [*tokens, END] if len(tokens) < NEW else tokens
        ids = torch.tensor([[*prompt, *ended]])
        with torch.no_grad():
            logits = theirs(torch.tensor(features[row : row + 1].transpose(0, 2, 1)), decoder_input_ids=ids).logits[0]
        logits[:, SUPPRESSED["suppress_tokens"]] = -torch.inf
        logits[len(prompt) - 1, SUPPRESSED["begin_suppress_tokens"]] = -torch.inf
        logs = logits.log_softmax(dim=-1)[torch.arange(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]]
        assert average == pytest.approx(float(logs.sum()) / (len(tokens) + 1), abs=1e-4)


def test_the_same_path_through_attention():
    generation = transformers.models.whisper.generation_whisper
    for seed in range(5):
        costs = np.random.default_rng(seed).normal(size=(9, 31))
        for ours, theirs in zip(warped(costs), generation._dynamic_time_warping(costs), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    weights = np.random.default_rng(0).normal(size=(2, 4, 20))
    expected = generation._median_filter(torch.tensor(weights)[None], 7)[0]
    np.testing.assert_array_equal(smoothed(weights, 7), expected)
