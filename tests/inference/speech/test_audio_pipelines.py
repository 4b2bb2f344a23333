"""Pipelines of recordings against the model they ask: however audio comes, alone or together, at once or in windows."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from data import DataError
from data.audio.characters import Characters
from data.audio.features import SpectrogramExtractor
from data.audio.log_mel import log_mel
from data.audio.processor import WaveformProcessor
from experiments.commands import predict
from inference.pipeline import pipeline
from models import hub
from models.config import ModelError
from models.wav2vec2 import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification
from models.whisper import WhisperConfig, WhisperForAudioClassification

RATE, STEP = 16_000, 320
CHARACTERS = Characters.of(["ABC D"])
SHAPE = dict(
    vocab_size=CHARACTERS.size,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8, 8, 8, 8),
    conv_kernel=(10, 8, 4, 4),
    conv_stride=(5, 4, 4, 4),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    initializer_range=0.5,
    labels=("no", "yes", "maybe"),
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def write(folder: Path, architecture: type, mask: bool = True, **changes):
    model = architecture(Wav2Vec2Config(**{**SHAPE, **changes}))
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    hub.save(folder, model, variables)
    WaveformProcessor(RATE, return_attention_mask=mask).write(folder)
    CHARACTERS.write(folder)
    return model, variables


def logits(model, variables, samples: np.ndarray) -> np.ndarray:
    values = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return np.asarray(model.apply(variables, jnp.asarray(values)[None]).logits[0])


def test_classification_gives_the_probabilities_of_the_model(tmp_path: Path) -> None:
    model, variables = write(tmp_path, Wav2Vec2ForSequenceClassification)
    ask = pipeline("audio-classification", tmp_path)
    samples = sound(0.7)
    soundfile.write(tmp_path / "a.flac", samples, RATE, subtype="PCM_24")
    expected = np.asarray(jax.nn.softmax(logits(model, variables, samples)))
    given = (
        str(tmp_path / "a.flac"),
        (tmp_path / "a.flac").read_bytes(),
        samples,
        {"array": samples, "sampling_rate": RATE},
    )
    for one in given:
        answers = ask(one)
        assert [a["label"] for a in answers] == [model.config.labels[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose([a["score"] for a in answers], np.sort(expected)[::-1], atol=1e-5)
    assert len(ask(samples, top_k=1)) == 1


@pytest.mark.parametrize("mask", [True, False])
def test_recordings_are_read_together_as_alone(mask: bool, tmp_path: Path) -> None:
    changes = {} if mask else dict(feat_extract_norm="group", do_stable_layer_norm=False)
    write(tmp_path, Wav2Vec2ForCTC, mask, **changes)
    ask = pipeline("automatic-speech-recognition", tmp_path)
    recordings = [sound(seconds, seed) for seed, seconds in enumerate((0.3, 1.2, 0.3, 0.9))]
    together = ask(recordings, return_timestamps="char")
    assert together == [ask(one, return_timestamps="char") for one in recordings]
    assert len({one["text"] for one in together}) > 1


def test_the_text_and_its_times_are_those_of_the_likeliest_frames(tmp_path: Path) -> None:
    model, variables = write(tmp_path, Wav2Vec2ForCTC)
    ask, samples = pipeline("automatic-speech-recognition", tmp_path), sound(1.5)
    best = logits(model, variables, samples).argmax(axis=-1)
    answer = ask(samples, return_timestamps="char")
    said, chunks = "", []
    for frame, token in enumerate(best):
        if frame and token == best[frame - 1]:
            if token > 3:
                chunks[-1] = (chunks[-1][0], (frame + 1) * 0.02)
        elif token > 3:
            said += " " if token == 4 else CHARACTERS.tokens[token]
            chunks.append((frame * 0.02, (frame + 1) * 0.02))
    assert answer["text"] == said.strip() and len(said) > 3
    np.testing.assert_allclose([chunk["timestamp"] for chunk in answer["chunks"]], chunks, atol=1e-9)
    by_word = ask(samples, return_timestamps="word")["chunks"]
    assert [chunk["text"] for chunk in by_word] == said.split()
    assert ask(samples) == {"text": said.strip()}


def test_a_beam_of_one_differs_from_a_wide_one_and_both_have_times(tmp_path: Path) -> None:
    write(tmp_path, Wav2Vec2ForCTC)
    ask = pipeline("automatic-speech-recognition", tmp_path)
    answers = [ask(sound(0.6, 3), num_beams=beams, return_timestamps="char") for beams in (1, 20)]
    for answer in answers:
        assert "".join(chunk["text"] for chunk in answer["chunks"]).strip() == answer["text"]


def test_windows_are_joined_where_they_overlap(tmp_path: Path) -> None:
    """A model that looks at 1 frame and its neighbours alone reads long audio in windows as at once."""
    write(tmp_path, Wav2Vec2ForCTC, num_hidden_layers=1)
    ask = pipeline("automatic-speech-recognition", tmp_path)
    whole, windows = sound(7.0, 5), []
    task = ask.task.changed(chunk_length_s=2.0, stride_length_s=0.5)
    windows = task.read(ask.reader, [whole])[0]
    assert [len(window) for window in windows] == [32_000] * 6
    for number, window in enumerate(windows):
        np.testing.assert_array_equal(window, whole[16_000 * number :][:32_000])
    answer = ask(whole, chunk_length_s=2.0, stride_length_s=0.5, return_timestamps="char")
    times = [time for chunk in answer["chunks"] for time in chunk["timestamp"]]
    assert times == sorted(times) and times[-1] <= 7.0 and answer["text"]


def test_frames_of_windows_follow_one_another() -> None:
    from inference.speech.spelled import joined

    frames = np.arange(349)[:, None]  # of 350 steps of samples, as many as there are
    windows = [frames[begin : begin + 99] for begin in range(0, 300, 50)]
    np.testing.assert_array_equal(joined(windows, 25, 50), frames)


@pytest.mark.parametrize(
    ("given", "settings", "error", "message"),
    [
        (np.zeros(100, np.float32), {}, ModelError, "100 samples, and the model makes a frame of 345"),
        ({"array": [0.0] * 900}, {}, ModelError, "expected array and sampling_rate"),
        (np.full(900, np.nan, np.float32), {}, DataError, "NaN or infinite"),
        ("nowhere.wav", {}, DataError, r"there is no audio file nowhere\.wav"),
        (sound(1.0), dict(chunk_length_s=1.0, stride_length_s=0.5), ModelError, "strides of 0.02 s or more"),
        (sound(1.0), dict(return_timestamps="sentence"), ModelError, "expected a truth value, word or char"),
        (sound(1.0), dict(num_beams=0), ModelError, "num_beams=0"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(given, settings, error, message, tmp_path: Path) -> None:
    write(tmp_path, Wav2Vec2ForCTC)
    ask = pipeline("automatic-speech-recognition", tmp_path)
    with pytest.raises(error, match=message) as caught:
        ask(given, **settings)
    assert "\n" not in str(caught.value)


def test_a_folder_without_its_vocabulary_or_processor_is_refused(tmp_path: Path) -> None:
    write(tmp_path, Wav2Vec2ForCTC)
    Characters.of(["AB"]).write(tmp_path)
    with pytest.raises(ModelError, match=r"a vocabulary of 7 characters, and a model of 9"):
        pipeline("automatic-speech-recognition", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="says how audio is prepared"):
        pipeline("automatic-speech-recognition", tmp_path)


def test_classification_of_spectrograms_gives_the_probabilities_of_the_model(tmp_path: Path) -> None:
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
    }
    shape = dict(d_model=16, num_mel_bins=20, max_source_positions=50, init_std=0.3, labels=SHAPE["labels"], **sides)
    model = WhisperForAudioClassification(WhisperConfig(**shape))
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    hub.save(tmp_path, model, variables)
    SpectrogramExtractor(20, 1).write(tmp_path)
    ask = pipeline("audio-classification", tmp_path)
    sounds = [sound(seconds, seed) for seed, seconds in enumerate((0.4, 1.0, 1.7))]  # what is beyond 1 s is cut
    for samples, answer in zip(sounds, ask(sounds, top_k=3), strict=True):
        window = np.pad(samples[:RATE], (0, max(0, RATE - len(samples))))
        scores = np.asarray(model.apply(variables, log_mel(window, mels=20)[None]).logits[0])
        right = jax.nn.softmax(scores)[np.argsort(-scores)]
        assert [one["label"] for one in answer] == [shape["labels"][n] for n in np.argsort(-scores)]
        assert [one["score"] for one in answer] == pytest.approx(right.tolist(), abs=1e-5)
        assert ask(samples, top_k=3)[0]["score"] == pytest.approx(answer[0]["score"], abs=1e-6)


def test_flags_are_those_of_a_model_that_spells(tmp_path: Path, capsys) -> None:
    write(tmp_path / "model", Wav2Vec2ForCTC)
    soundfile.write(tmp_path / "one.wav", sound(1.0), RATE)
    given = ["automatic-speech-recognition", str(tmp_path / "one.wav"), "--model", str(tmp_path / "model")]
    said = []
    for flags in ([], ["--num-beams", "8"], ["--chunk-length-s", "0.6", "--stride-length-s", "0.1"]):
        predict.main([*given, *flags])
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 3
    (tmp_path / "words.arpa").write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-1.0\t<unk>\n-1.0\t<s>\n-1.0\t</s>\n-0.1\tA\n\n\\end\\\n"
    )
    predict.main([*given, "--num-beams", "8", "--language-model", str(tmp_path / "words.arpa")])
    assert capsys.readouterr().out not in said
