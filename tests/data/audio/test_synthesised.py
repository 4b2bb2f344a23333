"""Synthesised speech: kept once it is said, other voices and other phrases held out."""

import numpy as np
import pytest

from data import DataError
from data.audio import synthesised
from data.audio.source import Audio
from data.audio.synthesised import COMMANDS, Utterance, open_sentences, open_words, phrases, said, speaker
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


def test_what_is_said_is_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = [Utterance("seven"), Utterance("seven", "f2"), Utterance("seven", speed=90), Utterance("no")]
    first = said(utterances, tmp_path)
    lengths = [len(samples) for samples in first.waveforms]
    assert all(0.2 < length / first.rate < 1.6 for length in lengths) and lengths[2] > lengths[0] > lengths[3]
    assert first.waveforms[0].dtype == np.int16 and first.values == ["seven", "seven", "seven", "no"]
    monkeypatch.setattr(synthesised, "speaker", None)
    for one, again in zip(first.waveforms, said(utterances, tmp_path).waveforms, strict=True):
        np.testing.assert_array_equal(one, again)


def test_what_was_said_before_changes_nothing(tmp_path) -> None:
    utterances = [Utterance("seven", "m3"), Utterance("the river ran past", "f2")]
    first = said(utterances, tmp_path / "first")
    said([Utterance("no")], tmp_path / "again")
    for one, again in zip(first.waveforms, said(utterances, tmp_path / "again").waveforms, strict=True):
        np.testing.assert_array_equal(one, again)


def test_words_that_are_held_out_are_said_by_voices_never_heard(few: None, tmp_path) -> None:
    opened = open_words(tmp_path)
    train, held_out = opened.splits["train"], opened.splits["validation"]
    assert opened.classes == COMMANDS
    assert (len(train), len(held_out)) == (10 * 10, 10 * 2)
    assert np.bincount(train.values).tolist() == [10] * 10


def test_phrases_are_plain_words_and_those_held_out_are_others(few: None, tmp_path) -> None:
    texts = phrases(2_000)
    assert len(set(texts)) == 2_000 and all(2 <= len(text.split()) <= 5 for text in texts)
    assert set("".join(texts)) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert texts[:50] == phrases(50)
    opened = open_sentences(tmp_path)
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
        speaker()
