"""Our pipelines of recordings beside those of `transformers`, and what is read and written for both."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.audio.characters import Characters
from data.audio.processor import WaveformProcessor
from inference.pipeline import pipeline

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.parity.reference import perturbed  # noqa: E402

CHARACTERS = Characters.of(["THE QUICK BROWN FOX'S JUMP"])
SHAPE = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=[16, 16, 16, 16],
    conv_kernel=[10, 8, 4, 4],
    conv_stride=[5, 4, 4, 4],
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    vocab_size=CHARACTERS.size,
    pad_token_id=0,
)
NORMS = {"group": {}, "layer": dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)}


def folder(path: Path, architecture: str, norm: str, **changes):
    """Written by `transformers`, but for the vocabulary, which we write and it reads."""
    model = perturbed(architecture, transformers.Wav2Vec2Config(**SHAPE, **NORMS[norm], **changes))
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer", do_normalize=True)
    model.save_pretrained(path)
    extractor.save_pretrained(path)
    CHARACTERS.write(path)
    return model, extractor


def recordings() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(0.3 * draw.normal(size=size)).astype(np.float32) for size in (5_000, 16_000, 9_001)]


@pytest.mark.parametrize("timestamps", [None, "char", "word"])
@pytest.mark.parametrize("norm", NORMS)
def test_transcripts(norm: str, timestamps: str | None, tmp_path: Path) -> None:
    model, extractor = folder(tmp_path, "Wav2Vec2ForCTC", norm)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs = transformers.pipeline(
        "automatic-speech-recognition", model=model, feature_extractor=extractor, tokenizer=tokenizer
    )
    ours = pipeline("automatic-speech-recognition", tmp_path)
    for samples in recordings():
        found = ours(samples, return_timestamps=timestamps or False)
        expected = theirs(samples.copy(), **({"return_timestamps": timestamps} if timestamps else {}))
        for special in ("<s>", "</s>", "<unk>"):  # which it writes into the text
            expected["text"] = expected["text"].replace(special, "")
        assert found["text"].split() == expected["text"].split()
        if timestamps == "char":
            there = [chunk for chunk in expected["chunks"] if not chunk["text"].startswith("<")]
            assert [chunk["text"] for chunk in found["chunks"]] == [chunk["text"] for chunk in there]
            times = [[chunk["timestamp"] for chunk in chunks] for chunks in (found["chunks"], there)]
            np.testing.assert_allclose(*times, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_classes(norm: str, tmp_path: Path) -> None:
    model, extractor = folder(
        tmp_path, "Wav2Vec2ForSequenceClassification", norm, num_labels=4, use_weighted_layer_sum=True
    )
    theirs = transformers.pipeline("audio-classification", model=model, feature_extractor=extractor, top_k=4)
    ours = pipeline("audio-classification", tmp_path)
    for samples in recordings():
        found, expected = ours(samples), theirs(samples.copy())
        assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
        np.testing.assert_allclose([a["score"] for a in found], [a["score"] for a in expected], atol=1e-5)


def test_classes_of_spectrograms(tmp_path: Path) -> None:
    sides = dict(encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, decoder_attention_heads=4)
    shape = dict(d_model=32, num_mel_bins=16, max_source_positions=50, use_weighted_layer_sum=True, **sides)
    model = perturbed("WhisperForAudioClassification", transformers.WhisperConfig(**shape, num_labels=4))
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    theirs = transformers.pipeline("audio-classification", model=model, feature_extractor=extractor, top_k=4)
    ours = pipeline("audio-classification", tmp_path)
    for samples in recordings():
        found, expected = ours(samples), theirs(samples.copy())
        assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
        np.testing.assert_allclose([a["score"] for a in found], [a["score"] for a in expected], atol=1e-5)


def test_our_vocabulary_is_their_tokenizer(tmp_path: Path) -> None:
    CHARACTERS.write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer).__name__ == "Wav2Vec2CTCTokenizer"
    for text in ("THE FOX", "BROWN FOX'S"):
        assert tokenizer(text).input_ids == CHARACTERS.encode(text)
    assert (tokenizer.pad_token_id, tokenizer.word_delimiter_token_id) == (CHARACTERS.pad, CHARACTERS.ids["|"])
    tokenizer.save_pretrained(tmp_path / "again")
    assert Characters.read(tmp_path / "again").ids == CHARACTERS.ids


@pytest.mark.parametrize("normalize", [True, False])
def test_our_normalisation_is_theirs(normalize: bool, tmp_path: Path) -> None:
    WaveformProcessor(do_normalize=normalize).write(tmp_path)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    batch = extractor(recordings(), sampling_rate=16_000, padding=True, return_tensors="np")
    for row, samples in enumerate(recordings()):
        values = WaveformProcessor.read(tmp_path).values(samples)
        np.testing.assert_allclose(batch["input_values"][row, : len(samples)], values, atol=1e-6)
        assert not batch["input_values"][row, len(samples) :].any()
        assert batch["attention_mask"][row].sum() == len(samples)
