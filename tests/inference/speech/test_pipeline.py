"""`automatic-speech-recognition` on the folder of a tiny model with random parameters."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from data.audio.features import SpectrogramExtractor
from data.errors import DataError
from experiments.commands import predict
from experiments.experiment import ExperimentError
from inference.pipeline import pipeline
from models import hub
from models.config import ModelError
from models.whisper import WhisperForConditionalGeneration
from tests.inference.speech.scripted import CONFIG, START, UNSTAMPED, tokenizer

NAME = "automatic-speech-recognition"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("whisper")
    model = WhisperForConditionalGeneration(dataclasses.replace(CONFIG, init_std=0.5))
    tokenizer().save(str(place / "tokenizer.json"))
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    hub.save(place, model, variables, tokenizer=place / "tokenizer.json")
    SpectrogramExtractor(CONFIG.num_mel_bins, chunk_length=1).write(place)
    published = json.loads((place / "generation_config.json").read_text())
    published |= {"is_multilingual": False, "suppress_tokens": list(range(START, UNSTAMPED))}
    (place / "generation_config.json").write_text(json.dumps(published))
    return place


@pytest.fixture(scope="module")
def ask(folder):
    return pipeline(NAME, folder)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(16_000 * seconds)).astype(np.float32)


def test_what_a_recording_may_come_as(ask, tmp_path):
    soundfile.write(tmp_path / "noise.wav", noise(0.7), 16_000, subtype="FLOAT")
    expected = ask(noise(0.7))
    assert expected["text"] and expected.keys() == {"text"}
    given = [str(tmp_path / "noise.wav"), (tmp_path / "noise.wav").read_bytes()]
    given += [{"array": noise(0.7), "sampling_rate": 16_000}, {"raw": noise(0.7), "sampling_rate": 16_000}]
    for one in given:
        assert ask(one) == expected


@pytest.mark.slow
def test_recordings_alone_and_together(ask):
    """Also what is drawn at random is a recording's own."""
    given = [noise(0.7), noise(2.3, seed=1), np.zeros(8_000, np.float32), noise(0.4, seed=2)]
    together = ask(given, return_timestamps=True, temperatures=(0.0, 1.0), logprob_threshold=-0.1)
    for number, one in enumerate(given):
        alone = next(
            ask.stream([one], first=number, return_timestamps=True, temperatures=(0.0, 1.0), logprob_threshold=-0.1)
        )
        assert alone == together[number]
    assert together[2] == {"text": "", "chunks": []}


@pytest.mark.slow
@pytest.mark.parametrize("timestamps", [True, "word"])
def test_chunks_are_in_order_and_within_the_recording(ask, timestamps):
    answer = ask(noise(2.6), return_timestamps=timestamps)
    times = [time for chunk in answer["chunks"] for time in chunk["timestamp"]]
    assert times and min(times) >= 0 and max(times) <= 2.6 + 1
    assert "".join(chunk["text"] for chunk in answer["chunks"]).split() == answer["text"].split()


@pytest.mark.slow
def test_how_much_has_been_heard(ask):
    heard = []
    pause = np.zeros(40_000, np.float32)
    ask([noise(2.6), np.concatenate([pause, noise(0.5), pause]), pause], on_progress=heard.append)
    assert sum(heard) == pytest.approx(2.6 + 5.5 + 2.5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"array": noise(0.5)}, ModelError, "recording 0 has array: expected array and sampling_rate"),
        (np.full(16_000, np.nan, np.float32), DataError, "samples are NaN"),
        ("nowhere.wav", DataError, "there is no audio file nowhere.wav"),
        (7, ModelError, "takes a recording"),
    ],
)
def test_what_cannot_be_heard_is_one_sentence(ask, given, error, message):
    with pytest.raises(error, match=message):
        ask(given)


def test_a_folder_whose_files_disagree_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    SpectrogramExtractor(80, chunk_length=1).write(tmp_path)
    with pytest.raises(ModelError, match="100 frames and 80 mels, and the model hears 100 and 6"):
        pipeline(NAME, tmp_path)


@pytest.mark.slow
def test_the_command_writes_subtitles_and_counts_seconds(folder, tmp_path, capsys, monkeypatch):
    counted = []

    @contextlib.contextmanager
    def counting(what, total):
        counted.append((what, total))
        yield counted.append

    monkeypatch.setattr(predict, "counting", counting)
    files = [str(tmp_path / f"{number}.wav") for number in range(2)]
    for seed, file in enumerate(files):
        soundfile.write(file, noise(1.5, seed), 16_000)
    predict.main([NAME, *files, "--model", str(folder), "--form", "vtt"])
    written = capsys.readouterr().out
    assert written.count("WEBVTT") == 2 and " --> " in written
    assert counted[0] == ("seconds of audio", 3.0) and sum(counted[1:]) == pytest.approx(3.0)
    with pytest.raises(ExperimentError, match="there is no audio file nowhere"):
        predict.main([NAME, "nowhere.wav", "--model", str(folder)])
