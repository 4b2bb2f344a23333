"""Recordings with what a decoder is to write of them."""

import dataclasses

import numpy as np
import pytest

from data import DataError
from data.audio.dictated import Dictated
from data.audio.features import SpectrogramExtractor
from data.audio.prompted import END, NO_SPEECH, NO_TIMESTAMPS, START
from data.forms import AudioForm
from data.ragged import IGNORED
from data.text.tokenizers import load
from inference.speech import SpeechTokens
from models.whisper import WhisperConfig
from tests.data.audio.samples import RATE, silent, write_rows

TEXTS = {
    f"{number}.wav": text for number, text in enumerate(("one two", "Two, three!", "one", "it's", "two one", "be"))
}
FORM = AudioForm(length=RATE, target=40)


@pytest.fixture
def table(tmp_path):
    return write_rows(tmp_path / "rows.tsv", TEXTS)


def dictated(table, **changes) -> Dictated:
    settings = dict(source=str(table), held_out=0.3, cache=str(table.parent / "cache"), seconds=1)
    return Dictated(**{**settings, **changes})


def test_texts_stand_behind_their_prompt(table, tmp_path) -> None:
    data = dictated(table, language="en").prepare(400, tmp_path, silent)
    ids = data.tokenizer.get_vocab(with_added_tokens=True)
    batch = data.examples(np.arange(6), FORM, 0).in_order().batch(np.arange(6))
    for row, text in enumerate(TEXTS.values()):
        labels = batch["labels"][row]
        kept = labels[labels != IGNORED].tolist()
        assert kept[:3] == [ids["<|en|>"], ids["<|transcribe|>"], ids[NO_TIMESTAMPS]] and kept[-1] == ids[END]
        assert data.tokenizer.decode(kept[3:-1]) == f" {text}" and data.vocabulary.decode(kept) == text
    assert batch["input_values"].shape == (6, RATE)
    np.testing.assert_array_equal(batch["attention_mask"].sum(axis=1), data.lengths)
    assert [len(one) for one in data.waveforms(np.array([3, 0]))] == data.lengths[[3, 0]].tolist()


def test_special_tokens_are_those_that_speech_recognition_looks_for(table, tmp_path) -> None:
    data = dictated(table).prepare(400, tmp_path, silent)
    blank = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = data.adapt(WhisperConfig(vocab_size=400, begin_suppress_tokens=None, **blank))
    found = SpeechTokens.of(data.tokenizer, config, data.generation)
    ids = data.tokenizer.get_vocab(with_added_tokens=True)
    assert (found.start, found.end, found.no_speech) == (ids[START], ids[END], ids[NO_SPEECH])
    assert found.seconds(ids["<|0.00|>"]) == 0 and found.seconds(ids["<|1.00|>"]) == 1
    assert not found.languages and found.prompt(None, "transcribe", False) == [ids[START], ids[NO_TIMESTAMPS]]
    assert config.vocab_size == len(ids) <= 400 and config.begin_suppress_tokens[-1] == ids[END]


def test_what_is_saved_is_read_again(table, tmp_path) -> None:
    data = dictated(table).prepare(400, tmp_path, silent)
    data.save(tmp_path, FORM)
    assert SpectrogramExtractor.read(tmp_path) == SpectrogramExtractor(80, 1)
    again = dictated(table).read_with(tmp_path / "tokenizer.json").prepare(400, tmp_path, silent)
    assert again.vocabulary == dataclasses.replace(data.vocabulary, content=again.vocabulary.content)
    assert load(tmp_path / "tokenizer.json").get_vocab() == data.tokenizer.get_vocab()
    with pytest.raises(DataError, match="begins texts with"):  # it was not trained for this model
        again.adapt(WhisperConfig.tiny())


def test_what_does_not_fit_is_refused(table, tmp_path) -> None:
    data = dictated(table).prepare(400, tmp_path, silent)
    with pytest.raises(DataError, match="longer than an example"):
        data.training(AudioForm(length=RATE, target=3), 0)
    data.save(tmp_path, FORM)
    with pytest.raises(DataError, match=r"no <\|de\|>"):
        dictated(table, language="de").read_with(tmp_path / "tokenizer.json").prepare(400, tmp_path, silent)
    with pytest.raises(DataError, match="expected translate or transcribe"):
        dictated(table, task="sing")
    with pytest.raises(DataError, match="leaves no room"):
        dictated(table).prepare(100, tmp_path, silent)
