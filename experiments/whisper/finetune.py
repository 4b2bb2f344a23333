"""Whisper fine-tuned on recordings of one language.

Radford et al.: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356; Ardila et al.: "Common
Voice: A Massively-Multilingual Speech Corpus", 2019, arXiv 1912.06670. The first fine-tunes nothing: rate, warm-up, batch and
steps are ours, and no result is published.

    lacuna train experiments/whisper/finetune.py --initial-model TINY_EN     on speech that is synthesised there
    lacuna train experiments/whisper/finetune.py:common_voice --initial-model openai/whisper-small --data.language de
"""

import dataclasses

from data.audio.dictated import Dictated
from data.forms import AudioForm
from evaluation.evaluation import Best
from experiments.experiment import Experiment, Phase
from experiments.whisper.pretrain import TARGET, WINDOW, heard
from models.whisper import WhisperConfig
from objectives import Transcription
from training.optimizers import AdamW


def spoken() -> Experiment:
    """Tiny.en on synthesised phrases, which it has never heard the like of; wants `--initial-model`, a folder that
    `experiments.material.whisper_tiny` writes."""
    return Experiment(
        name="whisper-spoken-finetuned",
        architecture="WhisperForConditionalGeneration",
        model=WhisperConfig.tiny_en(),
        objective=Transcription(),
        data=Dictated(source="spoken_sentences"),
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=10, b2=0.98, weight_decay=0.0),
        batch_size=8,
        steps=100,
        phases=(Phase(1.0, AudioForm(WINDOW, target=32)),),
        evaluate_every=50,
        evaluation_examples=64,
        evaluations=(heard("basic"),),
        best=Best("heard/wer"),
        checkpoint_every=50,
        log_every=1,
    )


def common_voice() -> Experiment:
    """Small on one language of Common Voice (TFDS `common_voice/de`; `--data.source` and `--data.language` name another), 5,000
    steps of 64 recordings; wants `--initial-model`."""
    return dataclasses.replace(
        spoken(),
        name="whisper-common-voice",
        model=WhisperConfig.small(dtype="bfloat16", scan_layers=True, remat="dots"),
        data=Dictated(
            source="common_voice/de", features=("voice", "sentence"), held_out_split="validation", language="de"
        ),
        optimizer=AdamW(learning_rate=1e-5, warmup_steps=500, b2=0.98, weight_decay=0.0),
        batch_size=64,
        steps=5_000,
        phases=(Phase(1.0, AudioForm(WINDOW, target=TARGET)),),
        evaluate_every=1_000,
        evaluation_examples=1_000,
        evaluations=(heard("basic"),),
        checkpoint_every=1_000,
        log_every=25,
    )
