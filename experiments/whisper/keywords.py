"""Whisper's encoder on spoken words: which one is it?

The task is that of Warden, "Speech Commands", 2018, arXiv 1804.03209; the encoder that of Radford et al.: "Robust Speech
Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356, who classify nothing: the settings are ours.

    lacuna train experiments/whisper/keywords.py     minutes on a laptop, on words that are synthesised there
    lacuna train experiments/whisper/keywords.py:speech_commands --initial-model openai/whisper-base
"""

import dataclasses

from data.audio.spectrograms import LabelledSpectrograms, SpecAugment
from data.audio.synthesised import COMMANDS
from data.forms import AudioForm
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.accuracy import Accuracy
from experiments.experiment import Experiment, Phase
from experiments.whisper.pretrain import WINDOW, small_shape
from models.whisper import WhisperConfig
from objectives import Classification
from training.optimizers import AdamW


def spoken() -> Experiment:
    """Ten synthesised words, told apart in voices that were never heard in training, from windows of 1 s."""
    return Experiment(
        name="whisper-spoken-words",
        architecture="WhisperForAudioClassification",
        model=small_shape(max_source_positions=50, classifier_proj_size=64, labels=COMMANDS),
        objective=Classification(),
        data=LabelledSpectrograms(source="spoken_words", masking=SpecAugment(bands=1, spans=1, span_width=20)),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=50, b2=0.98),
        batch_size=32,
        steps=300,
        phases=(Phase(1.0, AudioForm(16_000)),),
        evaluate_every=75,
        evaluation_examples=240,
        evaluations=(Evaluation(metrics=(Accuracy(),)),),
        best=Best("accuracy", more_is_better=True),
        checkpoint_every=75,
        log_every=1,
    )


def speech_commands() -> Experiment:
    """Base on TFDS `speech_commands`, a learned mean of its layers; wants `--initial-model`."""
    return dataclasses.replace(
        spoken(),
        name="whisper-speech-commands",
        model=WhisperConfig.base(use_weighted_layer_sum=True, dtype="bfloat16", scan_layers=True),
        data=LabelledSpectrograms(source="speech_commands"),
        optimizer=AdamW(learning_rate=1e-4, warmup_steps=500, weight_decay=0.0),
        batch_size=64,
        steps=20_000,
        phases=(Phase(1.0, AudioForm(WINDOW)),),
        evaluate_every=2_000,
        checkpoint_every=2_000,
        evaluation_examples=10_102,
        log_every=100,
    )
