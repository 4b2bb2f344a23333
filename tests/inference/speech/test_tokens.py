"""Special tokens of a model of speech: which there are, and what a decoder is begun with."""

import dataclasses

import pytest
from tokenizers import Tokenizer, models

from inference.speech import SpeechTokens
from models.config import ModelError
from tests.inference.speech.scripted import CONFIG, END, IDS, START, UNSTAMPED, tokenizer

MANY = {"is_multilingual": True}


def test_what_a_tokenizer_and_the_published_settings_say():
    tokens = SpeechTokens.of(tokenizer(), CONFIG, MANY)
    assert (tokens.start, tokens.end, tokens.no_timestamps) == (START, END, UNSTAMPED)
    assert tokens.languages == {"en": IDS["<|en|>"], "de": IDS["<|de|>"]} and set(tokens.tasks) == {
        "transcribe",
        "translate",
    }
    assert (tokens.previous, tokens.no_speech) == (IDS["<|startofprev|>"], IDS["<|nospeech|>"])
    assert tokens.is_time(UNSTAMPED + 1) and not tokens.is_time(UNSTAMPED)
    assert [tokens.seconds(UNSTAMPED + 1 + step) for step in (0, 1, 50)] == pytest.approx([0.0, 0.02, 1.0])
    moved = SpeechTokens.of(tokenizer(), CONFIG, {**MANY, "no_timestamps_token_id": 20, "prev_sot_token_id": 3})
    assert (moved.time_zero, moved.previous) == (21, 3)


def test_a_model_of_one_language_has_no_tokens_of_languages():
    """Its tokenizer has them all the same: the size of the vocabulary tells, where nothing else does."""
    assert SpeechTokens.of(tokenizer(), CONFIG, {}).prompt(None, "transcribe", timestamps=False) == [START, UNSTAMPED]
    large = dataclasses.replace(CONFIG, vocab_size=51_865)
    prompt = [START, IDS["<|de|>"], IDS["<|translate|>"]]
    assert SpeechTokens.of(tokenizer(), large, {}).prompt("de", "translate", timestamps=True) == prompt


def test_what_came_before_is_announced():
    tokens = SpeechTokens.of(tokenizer(), CONFIG, MANY)
    assert tokens.before([1, 2, 3], most=2) == [IDS["<|startofprev|>"], 2, 3]
    assert tokens.before([], most=2) == tokens.before([1], most=0) == []
    assert dataclasses.replace(tokens, previous=None).before([1, 2], most=2) == []


def test_a_tokenizer_of_texts_is_refused():
    with pytest.raises(ModelError, match=r"no_timestamps_token_id=None"):
        SpeechTokens.of(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), CONFIG, {})
