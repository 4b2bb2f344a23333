"""Synthesised speech: the same each time, other voices and other phrases held out."""

import numpy as np
import pytest

from data import DataError
from data.audio import synthesised
from data.audio.source import Audio
from data.audio.synthesised import COMMANDS, open_sentences, open_words, phrases, speaker
from data.audio.transcribed import Transcribed
from data.forms import AudioForm
from tests.data.audio.samples import silent


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small part of what there is."""
    monkeypatch.setattr(synthesised, "SPEEDS", (150,))
    monkeypatch.setattr(synthesised, "PITCHES", (50,))
    monkeypatch.setattr(synthesised, "SENTENCE_COUNT", 12)
    monkeypatch.setattr(synthesised, "SENTENCE_HELD_OUT", 4)


def test_a_text_is_spoken_the_same_each_time_and_otherwise_by_others() -> None:
    first, again, other = (speaker().say("seven", voice) for voice in ("m1", "m1", "f2"))
    assert first.dtype == np.int16 and 0.2 < len(first) / speaker().rate < 1.5
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()
    assert len(speaker().say("seven", "m1", speed=120)) > len(first)


def test_words_that_are_held_out_are_said_by_voices_never_heard(few: None) -> None:
    opened = open_words()
    train, held_out = opened.splits["train"], opened.splits["validation"]
    assert opened.classes == COMMANDS
    assert (len(train), len(held_out)) == (10 * 10, 10 * 2)
    assert np.bincount(train.values).tolist() == [10] * 10
    heard = {samples.tobytes() for samples in train.waveforms}
    assert not heard & {samples.tobytes() for samples in held_out.waveforms}


def test_phrases_are_plain_words_and_those_held_out_are_others(few: None) -> None:
    texts = phrases(2_000)
    assert len(set(texts)) == 2_000 and all(2 <= len(text.split()) <= 5 for text in texts)
    assert set("".join(texts)) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert texts[:50] == phrases(50)
    opened = open_sentences()
    train, held_out = (set(opened.splits[split].values) for split in ("train", "validation"))
    assert len(train) == 12 and len(held_out) == 4 and not train & held_out


def test_they_are_sources_by_their_names(few: None, tmp_path) -> None:
    data = Transcribed(source="spoken_sentences", cache=str(tmp_path)).prepare(0, tmp_path, silent)
    assert data.counts == (12, 4) and data.given
    example = data.training(AudioForm(96_000, target=64), 0)[0]
    assert example["attention_mask"].sum() > 8_000 and example["labels"].max() < data.vocabulary.size
    alone = Audio(source="spoken_sentences", cache=str(tmp_path)).prepare(0, tmp_path, silent)
    assert "labels" not in alone.training(AudioForm(16_000), 0)[0]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match="install the `demo` extra"):
        speaker.__wrapped__()
