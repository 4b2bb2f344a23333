"""Very small models of recordings, for tests of whole runs; `--data.source` is set by the test."""

import dataclasses

from data.audio.spectrograms import SpecAugment
from data.forms import AudioForm
from experiments.experiment import Experiment, Phase
from experiments.wav2vec2 import ctc, keywords, pretrain
from experiments.whisper import keywords as whisper_keywords
from experiments.whisper import pretrain as whisper
from models.wav2vec2 import Wav2Vec2Config

CONV = dict(conv_kernel=(10, 8, 4, 4), conv_stride=(5, 4, 4, 4))


def shape(**changes) -> Wav2Vec2Config:
    settings = dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout=0.1,
        layerdrop=0.2,
        conv_dim=(8, 8, 8, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_codevectors_per_group=6,
        codevector_dim=8,
        proj_codevector_dim=8,
        mask_time_prob=0.5,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        **CONV,
    )
    return pretrain.small_shape(**{**settings, **changes})


def small(base: Experiment, form: AudioForm, **changes) -> Experiment:
    settings = dict(
        model=shape(labels=base.model.labels),
        data=dataclasses.replace(base.data, source="", held_out=0.2),
        batch_size=8,
        steps=9,
        phases=(Phase(1.0, form),),
        evaluate_every=3,
        checkpoint_every=3,
    )
    return dataclasses.replace(base, **{**settings, **changes})


def pretraining() -> Experiment:
    base = pretrain.spoken()
    objective = dataclasses.replace(base.objective, codes=6, num_negatives=5, feature_penalty_weight=10.0)
    return small(base, AudioForm(6_000, buckets=2), name="small-speech", objective=objective)


def transcription() -> Experiment:
    base = ctc.spoken()
    objective = dataclasses.replace(base.objective, hidden_size=16)
    return small(base, AudioForm(10_000, target=8, buckets=2), name="small-transcripts", objective=objective)


def words() -> Experiment:
    return small(keywords.spoken(), AudioForm(6_000, buckets=2), name="small-words")


def dictation() -> Experiment:
    base = whisper.spoken()
    tokens = dict(vocab_size=400, max_source_positions=50, max_target_positions=16)
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
    }
    return small(
        base,
        AudioForm(16_000, target=8),
        name="small-dictation",
        model=whisper.small_shape(**tokens, **sides, d_model=16),
        data=dataclasses.replace(base.data, source="", held_out=0.2, seconds=1, masking=SpecAugment(1, 9, 1, 9)),
    )


def spectrogram_words() -> Experiment:
    base = whisper_keywords.spoken()
    sides = {f"encoder_{name}": size for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))}
    model = dataclasses.replace(base.model, d_model=16, **sides, decoder_attention_heads=2)
    return small(base, AudioForm(16_000), name="small-spectrogram-words", model=model)
