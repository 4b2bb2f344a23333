"""Recordings through the command line: pretrained, fine-tuned, measured, exported, asked, explained, gone on with."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from inference.pipeline import pipeline
from models import hub
from tests.data.audio.samples import write
from tests.experiments import small_audio
from tests.experiments.training_runs.test_runs import lacuna, python_m, start_and_signal

pytestmark = pytest.mark.slow

SMALL = str(Path(small_audio.__file__))
RUNS = {
    "pretraining": "Wav2Vec2ForPreTraining",
    "transcription": "Wav2Vec2ForCTC",
    "words": "Wav2Vec2ForSequenceClassification",
    "dictation": "WhisperForConditionalGeneration",
    "spectrogram_words": "WhisperForAudioClassification",
}
BEGUN = ("transcription", "words")
"""Runs that begin with what pretraining leaves."""


def typed(verb: str, name: str, *arguments) -> list[str]:
    return [*python_m(verb), f"{SMALL}:{name}", *map(str, arguments)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Tones of 0.3 to 0.6 s: folders by how high they are, and a table of names for that."""
    folder, rows = tmp_path_factory.mktemp("recordings"), ["audio\ttext"]
    for number in range(40):
        word = ("low", "high")[number % 2]
        name = f"words/{word}/{number}.wav"
        write(folder / name, 0.3 + 0.3 * (number % 7) / 6, (200, 900)[number % 2] + number)
        rows.append(f"{name}\t{word}")
    (folder / "rows.tsv").write_text("\n".join(rows) + "\n")
    words, rows = folder / "words", folder / "rows.tsv"
    texts = dict(transcription=rows, dictation=rows)
    return dict(pretraining=words, words=words, spectrogram_words=words, **texts)


@pytest.fixture(scope="module")
def runs(sources, environment, tmp_path_factory) -> dict[str, Path]:
    """The folders of finished runs, of which some begin with what the first leaves."""
    folders = {}
    for name in RUNS:
        folders[name] = tmp_path_factory.mktemp("runs") / name
        start = ("--initial-model", folders["pretraining"] / "model") if name in BEGUN else ()
        arguments = ("--data.source", sources[name], "--folder", folders[name], *start)
        done = lacuna(typed("train", name, *arguments), environment)
        assert done.returncode == 0, done.stdout + done.stderr
    return folders


def lines(folder: Path, split: str) -> list[dict]:
    read = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in read if line["split"] == split]


def test_every_run_measures_and_leaves_a_folder(runs) -> None:
    for name, architecture in RUNS.items():
        assert len(lines(runs[name], "train")) == 9 and len(lines(runs[name], "held_out")) >= 3
        assert all(np.isfinite(line["loss"]) for line in lines(runs[name], "held_out"))
        model, _ = hub.load(runs[name] / "model")
        assert type(model).__name__ == architecture
        assert (runs[name] / "model" / "preprocessor_config.json").is_file() and (runs[name] / "report.html").is_file()
    assert "<audio" in (runs["words"] / "report.html").read_text()
    assert all(np.isfinite(line["wer"]) for line in lines(runs["dictation"], "heard"))
    assert {"contrastive_loss", "diversity_loss", "feature_penalty", "contrastive_accuracy"} <= set(
        lines(runs["pretraining"], "train")[0]
    )


def test_what_a_run_leaves_is_asked(runs, sources) -> None:
    recording = next((sources["words"] / "low").iterdir())
    for name in ("words", "spectrogram_words"):
        answers = pipeline("audio-classification", runs[name] / "model")(recording)
        assert {answer["label"] for answer in answers} == {"low", "high"}
    assert isinstance(pipeline("automatic-speech-recognition", runs["dictation"] / "model")(recording)["text"], str)
    said = pipeline("automatic-speech-recognition", runs["transcription"] / "model")(
        recording, return_timestamps="char"
    )
    assert set(said["text"]) <= set("LOWHIG ") and len(said["chunks"]) >= len(said["text"])


@pytest.mark.parametrize("name", ["pretraining", "dictation"])
def test_a_run_goes_on_to_the_bit(name, runs, sources, environment, tmp_path) -> None:
    arguments = typed("train", name, "--data.source", sources[name], "--folder", tmp_path / "run")
    start_and_signal(arguments, environment, tmp_path / "run", 4, signal.SIGKILL).wait()
    done = lacuna(arguments, environment)
    assert done.returncode == 0, done.stderr
    once, again = (lines(folder, "train") for folder in (runs[name], tmp_path / "run"))
    assert len(once) == len(again) == 9
    losses = [name for name in once[0] if name.endswith("_loss") or name == "feature_penalty"]
    assert losses
    for loss in losses:
        assert [line[loss] for line in once] == [line[loss] for line in again]


def test_an_example_is_explained(sources, environment, tmp_path) -> None:
    for name, wanted in (
        ("pretraining", "frames are masked, in"),
        ("transcription", "'LOW'|'HIGH'"),
        ("words", "labels"),
        ("dictation", "<|startoftranscript|>"),
    ):
        arguments = ("--data.source", sources[name], "--folder", tmp_path / name)
        done = lacuna(typed("explain", name, *arguments), environment)
        assert done.returncode == 0, done.stderr
        assert any(part in done.stdout for part in wanted.split("|")), done.stdout
        assert (tmp_path / name / "example-0.png").stat().st_size > 5_000
