"""Wav2Vec2 on spoken words: which one is it?

Baevski, Zhou, Mohamed, Auli: "wav2vec 2.0", 2020, arXiv 2006.11477; the task is that of Warden, "Speech Commands", 2018, arXiv
1804.03209, and of Yang et al., "SUPERB", 2021, arXiv 2105.01051, who train a learned mean of the layers and a linear head on
a base model that stays as it is (96.2 % of the words right).

    lacuna train experiments/wav2vec2/keywords.py     minutes on a laptop, on words that are synthesised there
    lacuna train experiments/wav2vec2/keywords.py:superb --initial-model facebook/wav2vec2-base     on TFDS speech_commands
"""

import dataclasses

from data.audio.examples import Alteration
from data.audio.source import LabelledAudio
from data.audio.synthesised import COMMANDS
from data.forms import AudioForm
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.accuracy import Accuracy
from experiments.experiment import Experiment, Phase
from experiments.wav2vec2.pretrain import small_shape
from models.wav2vec2 import Wav2Vec2Config
from objectives import Classification
from training.optimizers import AdamW


def spoken() -> Experiment:
    """Ten synthesised words, told apart in voices that were never heard in training: minutes on two CPU cores.

    After 150 steps all 240 held-out words were right with convolutions of 64 channels each, which cost more; a line through the
    mean and the deviation of their log-mel bands has 92.1 % (`python -m experiments.campaigns.learning.spoken_words`).
    """
    return Experiment(
        name="wav2vec2-spoken-words",
        architecture="Wav2Vec2ForSequenceClassification",
        model=small_shape(labels=COMMANDS),
        objective=Classification(),
        data=LabelledAudio(source="spoken_words"),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=50, b2=0.98),
        batch_size=32,
        steps=300,
        phases=(Phase(1.0, AudioForm(12_000, buckets=2)),),
        evaluate_every=75,
        evaluation_examples=240,
        evaluations=(Evaluation(metrics=(Accuracy(),)),),
        best=Best("accuracy", more_is_better=True),
        checkpoint_every=75,
        log_every=1,
    )


def prompts() -> Experiment:
    """Words that were cut out of recorded prompts; wants `--data.source`, the `words` of `experiments.material.asterisk`.

    After 300 steps 60 to 65 % of 82 words of other sentences are right, from pretrained parameters 65 to 72 %; a line through
    log-mel bands has 80 % (`docs/learning-speech.md`).
    """
    return dataclasses.replace(
        spoken(),
        name="wav2vec2-prompts-words",
        data=LabelledAudio(source="words", alteration=Alteration(speeds=(0.9, 1.0, 1.1))),
        batch_size=16,
        phases=(Phase(1.0, AudioForm(18_000, buckets=2)),),
    )


def superb() -> Experiment:
    """Base, all of it frozen but the mean of the layers and the head, on 1 s of speech; wants `--initial-model`."""
    return dataclasses.replace(
        spoken(),
        name="wav2vec2-speech-commands",
        model=Wav2Vec2Config.base(use_weighted_layer_sum=True, dtype="bfloat16", scan_layers=True),
        data=LabelledAudio(source="speech_commands", do_normalize=False),
        optimizer=AdamW(learning_rate=1e-4, warmup_steps=1_000, weight_decay=0.0),
        steps=200_000,
        phases=(Phase(1.0, AudioForm(16_000), "projector|classifier|layer_weights"),),
        evaluate_every=5_000,
        checkpoint_every=5_000,
        evaluation_examples=10_102,
        log_every=100,
    )
