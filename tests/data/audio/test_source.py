"""Sources of recordings: what they hold, what their examples look like, and what is refused in a sentence."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data import DataError
from data.audio.characters import Characters
from data.audio.examples import Alteration
from data.audio.processor import WaveformProcessor
from data.audio.source import Audio, LabelledAudio
from data.audio.transcribed import Transcribed
from data.contract import Prepared, Source
from data.forms import AudioForm
from data.loader import load
from data.ragged import IGNORED
from tests.data.audio.samples import RATE, silent, tone, write, write_rows

TEXTS = {f"{number}.wav": text for number, text in enumerate(("one", "Two, three!", "a b", "it's", "one two", "be"))}
SECONDS = {f"{number}.wav": 0.05 + 0.02 * number for number in range(6)}
FORM = AudioForm(length=3_000, target=12, together=2)


def prepared(source: Source, tmp_path: Path) -> Prepared:
    return source.prepare(0, tmp_path, silent)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.tsv", TEXTS, SECONDS)


def transcribed(table: Path, **changes) -> Transcribed:
    settings = dict(source=str(table), held_out=0.3, cache=str(table.parent / "cache"))
    return Transcribed(**{**settings, **changes})


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_transcripts_come_with_their_recordings(suffix: str, tmp_path: Path) -> None:
    data = prepared(transcribed(write_rows(tmp_path / f"rows{suffix}", TEXTS, SECONDS)), tmp_path)
    train, held_out = data.training_items, data.held_out_items
    assert sorted([*train, *held_out]) == list(range(6)) and len(held_out)
    examples = data.examples(np.arange(6), FORM, 0).in_order()
    batch = examples.batch(np.arange(6))
    assert batch["input_values"].dtype == np.float32 and batch["labels"].dtype == np.int32
    for row, (name, text) in enumerate(TEXTS.items()):
        samples = round(SECONDS[name] * RATE)
        heard = batch["attention_mask"][row].astype(bool)
        assert heard.sum() == samples == data.lengths[row] and heard[:samples].all()
        wave = tone(SECONDS[name], hertz=200 + 50 * row)
        wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        assert np.abs(batch["input_values"][row, :samples] - wave).max() < 1e-3
        assert not batch["input_values"][row, samples:].any()
        labels = batch["labels"][row]
        kept = labels[labels != IGNORED]
        assert data.vocabulary.decode(kept) == " ".join(text.upper().replace(",", "").replace("!", "").split())
    assert data.counts == (len(train), len(held_out)) and data.texts(held_out)[1]


def test_the_vocabulary_is_made_of_the_transcripts(table: Path, tmp_path: Path) -> None:
    data = prepared(transcribed(table), tmp_path)
    texts = set("".join(data.transcripts)) - {" "}
    assert data.vocabulary.tokens == ("<pad>", "<s>", "</s>", "<unk>", "|", *sorted(texts))
    data.save(tmp_path, FORM)
    assert Characters.read(tmp_path).ids == data.vocabulary.ids
    assert WaveformProcessor.read(tmp_path) == data.audio.processor
    again = prepared(transcribed(table, vocabulary=str(tmp_path / "vocab.json")), tmp_path)
    assert again.vocabulary.ids == data.vocabulary.ids


def test_a_recording_has_the_length_of_its_bucket_and_the_order_is_a_function_of_seed(
    table: Path, tmp_path: Path
) -> None:
    data = prepared(transcribed(table), tmp_path)
    form = AudioForm(length=3_000, target=12, buckets=3, together=2)
    examples = data.examples(np.arange(6), form, 5)
    batches = [list(load(examples, batch_size=2, first_step=0, last_step=6)) for _ in range(2)]
    for one, other in zip(*batches, strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    lengths = {batch["input_values"].shape[-1] for batch in batches[0]}
    assert lengths == set(examples.buckets.lengths.ravel().tolist()) and len(lengths) == 3
    assert {int(n) for batch in batches[0][:3] for n in batch["attention_mask"].sum(-1).ravel()} == set(
        data.lengths.tolist()
    )
    copied = pickle.loads(pickle.dumps(examples))
    np.testing.assert_array_equal(copied[7]["input_values"], examples[7]["input_values"])


def test_of_a_long_recording_a_part_is_shown_from_a_place_that_the_example_decides(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "speech" / f"{number}.wav", 0.5, 300 + 100 * number)
    data = prepared(
        Audio(source=str(tmp_path / "speech"), held_out=0.5, cache=str(tmp_path), do_normalize=False), tmp_path
    )
    assert "labels" not in data.held_out(AudioForm(length=100))[0]
    examples = data.training(AudioForm(length=1_000), 3)
    parts = [examples[index]["input_values"] for index in range(4)]
    assert all(part.shape == (1_000,) for part in parts) and not np.array_equal(parts[0], parts[1])
    np.testing.assert_array_equal(examples[2]["input_values"], parts[2])
    whole = data.audio.look(silent, None, "refuse").parts[0].waveform(int(data.training_items[0]), RATE)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 1_000)
    assert all((np.abs(windows - part).max(axis=1) == 0).any() for part in parts)
    begin = data.held_out(AudioForm(length=1_000))
    np.testing.assert_array_equal(
        begin[0]["input_values"], data.recordings[0].waveform(int(begin.places[0]), RATE)[:1_000]
    )


def test_what_is_trained_on_is_altered_and_what_is_held_out_is_not(table: Path, tmp_path: Path) -> None:
    slow = prepared(transcribed(table, alteration=Alteration((0.5,)), do_normalize=False), tmp_path)
    form = AudioForm(length=6_000, target=12)
    example, held_out = slow.training(form, 0)[0], slow.held_out(form)[0]
    place = int(slow.training(form, 0).items(np.array([0]))[0])
    samples = slow.lengths[slow.training_items[place]]
    assert example["attention_mask"].sum() == 2 * samples
    spectrum = np.abs(np.fft.rfft(example["input_values"][: 2 * samples]))
    hertz = spectrum.argmax() * RATE / (2 * samples)
    assert hertz == pytest.approx((200 + 50 * slow.training_items[place]) / 2, abs=RATE / (2 * samples))
    assert held_out["attention_mask"].sum() == slow.lengths[slow.held_out_items[0]]
    plain, noisy = (
        prepared(transcribed(table, alteration=Alteration(noise=level), do_normalize=False), tmp_path).training(
            form, 0
        )[0]
        for level in (None, 20.0)
    )
    heard = plain["attention_mask"] > 0
    noise = (noisy["input_values"] - plain["input_values"])[heard]
    assert 20 * np.log10(plain["input_values"][heard].std() / noise.std()) == pytest.approx(20, abs=0.5)
    with pytest.raises(DataError, match=r"longer than an example"):
        slow.training(AudioForm(length=3_000, target=12), 0)
    with pytest.raises(DataError, match="expected some numbers"):
        Alteration(())


@pytest.mark.parametrize("splits", [False, True])
def test_class_folders(splits: bool, tmp_path: Path) -> None:
    root = tmp_path / "words"
    for split in ("train", "validation") if splits else ("",):
        for number, word in enumerate(("no", "yes")):
            for take in range(3):
                write(root / split / word / f"{take}.flac", 0.05, 200 + 100 * number + 7 * take + (3 if split else 0))
    data = prepared(LabelledAudio(source=str(root), held_out=0.4, cache=str(tmp_path)), tmp_path)
    assert data.vocabulary.labels == ("no", "yes") and data.given == splits
    assert sum(data.counts) == (12 if splits else 6)
    for items in (data.training_items, data.held_out_items):
        batch = data.examples(items, AudioForm(length=900), 0).in_order().batch(np.arange(len(items)))
        for row, item in enumerate(items.tolist()):
            place, parts = item, list(data.recordings)
            while place >= len(parts[0]):
                place -= len(parts.pop(0))
            assert batch["labels"][row] == (b"yes" in parts[0].names[place])


def test_a_table_of_classes(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "rows.jsonl", {"a.wav": "up", "b.wav": "down", "c.wav": "up"})
    data = prepared(
        LabelledAudio(source=str(table), features=("audio", "text"), held_out=0.4, cache=str(tmp_path)), tmp_path
    )
    assert data.vocabulary.labels == ("down", "up") and data.targets.tolist() == [1, 0, 1]


def test_splits_of_tables_and_several_to_train_on(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / f"{split}.tsv", {f"{split}-{n}.wav": f"{split} {n}" for n in "ab"})
    settings = dict(source=str(tmp_path), cache=str(tmp_path / "cache"))
    data = prepared(Transcribed(**settings), tmp_path)
    assert data.given and data.texts(data.held_out_items)[1] == ["VALIDATION A", "VALIDATION B"]
    both = Transcribed(**settings, training_splits=("train", "validation"), held_out_split="test", broken="skip")
    data = prepared(both, tmp_path)
    assert data.counts == (4, 2) and data.texts(data.held_out_items)[1][0] == "TEST A"
    with pytest.raises(DataError, match="no split 'dev', but"):
        prepared(Transcribed(**settings, training_splits=("dev",)), tmp_path)


def test_what_is_broken_is_named_or_left_out(table: Path, tmp_path: Path) -> None:
    (tmp_path / "2.wav").write_bytes((tmp_path / "2.wav").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"2\.wav is truncated.*lacuna check"):
        prepared(transcribed(table), tmp_path)
    assert sum(prepared(transcribed(table, broken="skip"), tmp_path).counts) == 5
    survey = transcribed(table).survey(None)
    assert survey.counts["recordings that can be read"] == "5" and "2.wav is truncated" in survey.broken[0]


def test_what_does_not_fit_is_refused_in_one_sentence(table: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.json"
    Characters.of(["ABC"]).write(tmp_path)
    with pytest.raises(DataError, match=r"transcript \d of .* has .*, which the vocabulary lacks"):
        prepared(transcribed(table, vocabulary=str(vocabulary)), tmp_path)
    data = prepared(transcribed(table), tmp_path)
    with pytest.raises(DataError, match=r"2 of 6 recordings are longer .* length=1,900, target=12"):
        data.examples(np.arange(6), AudioForm(length=1_900, target=12), 0)
    with pytest.raises(DataError, match="are longer than an example"):
        data.examples(np.arange(6), AudioForm(length=3_000, target=5), 0)
    with pytest.raises(DataError, match="target=0"):
        data.examples(np.arange(6), AudioForm(length=3_000), 0)
    of_bucket = dataclasses.replace(FORM.of_lengths(1_900), buckets=1)
    assert len(data.examples(np.arange(6), of_bucket, 0)) == 4, "longer ones are of another bucket"
    skipping = prepared(transcribed(table, broken="skip"), tmp_path)
    assert len(skipping.examples(skipping.training_items, AudioForm(length=1_900, target=12), 0)) < len(
        skipping.training_items
    )


BAD = {
    "missing": (
        lambda root: Audio(source=str(root / "nowhere")),
        "there is no .*nowhere: .*give a folder of audio files",
    ),
    "no audio": (lambda root: Audio(source=str(root)), "holds no audio file"),
    "a file": (lambda root: Audio(source=str(write(root / "a.wav"))), "is a file: give a folder"),
    "unknown name": (lambda root: Audio(source="librispech"), "nearest TFDS name is 'librispeech'"),
    "one feature": (
        lambda root: Transcribed(source=str(root), features=("audio",)),
        "expected the names of the audio and",
    ),
    "no column": (
        lambda root: Transcribed(source=str(write_rows(root / "r.tsv", {"a.wav": "a"})), features=("audio", "words")),
        "has no text 'words'",
    ),
    "no file": (
        lambda root: Transcribed(source=str(_without_file(root))),
        "there is no recording .*b.wav|there is no audio file",
    ),
    "a case": (lambda root: Transcribed(case="Upper"), "expected upper, lower or keep"),
    "one class": (
        lambda root: LabelledAudio(source=str(write_rows(root / "r.tsv", {"a.wav": "a"})), features=("audio", "text")),
        "the one class 'a'",
    ),
}


def _without_file(root: Path) -> Path:
    table = write_rows(root / "rows.tsv", {"a.wav": "a", "b.wav": "b"})
    (root / "b.wav").unlink()
    return table


@pytest.mark.parametrize("case", BAD)
def test_a_bad_source_is_refused_in_one_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "cache"))
    make, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        make(tmp_path).prepare(0, tmp_path, silent)
    assert "\n" not in str(caught.value)


def test_vocabularies_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no vocabulary"):
        Characters.read(tmp_path / "vocab.json")
    for content, message in (
        ({"a": 0, "b": 2}, "an id from 0 on"),
        ({"a": 0}, "no '<pad>'"),
        ([1], "is no vocabulary"),
    ):
        (tmp_path / "vocab.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            Characters.read(tmp_path)
    with pytest.raises(DataError, match="all empty"):
        Characters.of(["", " "])


def test_a_blank_example_looks_like_the_real_ones(table: Path, tmp_path: Path) -> None:
    source = transcribed(table)
    data = prepared(source, tmp_path)
    real, blank = data.examples(np.arange(6), FORM, 0)[0], source.outline(40).training(FORM, 0)[0]
    assert {n: (x.shape, x.dtype) for n, x in real.items()} == {n: (x.shape, x.dtype) for n, x in blank.items()}
    assert source.blank_vocabulary(40).size == 40
