"""Whisper from scratch: what is said in half a minute of sound, token by token.

Radford, Kim, Xu, Brockman, McLeavey, Sutskever: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv
2212.04356, section 2 and appendix F.

    lacuna train experiments/whisper/pretrain.py          minutes on a laptop, on speech that is synthesised there
    lacuna train experiments/whisper/pretrain.py:tiny     the published settings, on TFDS librispeech

| | layers of either side, width | rate | WER of LibriSpeech test-clean / other, greedily (table 8) |
|---|---|--:|--:|
| tiny | 4, 384 | 1.5e-3 | 7.6 / 16.9 |
| base | 6, 512 | 1e-3 | 5.0 / 12.4 |
| small | 12, 768 | 5e-4 | 3.4 / 7.6 |
| medium | 24, 1024 | 2.5e-4 | 2.9 / 5.9 |
| large | 32, 1280 | 1.75e-4 | 2.7 / 5.6 |
| large-v2 | 32, 1280 | 2e-4 | 2.7 / 5.2 |

Published: 680,000 hours that are not public, in 97 languages, with translations into English; 1,048,576 steps of 256 windows of
30 s (large-v2: 655,360 of 1,024); AdamW, (0.9, 0.98), 1e-6, weight decay 0.1, clipped at 1.0, 2,048 steps of warm-up, then a
straight line to 0. Hardware and hours are not published. Here the data are LibriSpeech, the nearest TFDS data set of English:
each recording is a window, without timestamps, text before it, or windows in which nobody speaks. Large-v2's SpecAugment is
that of its paper without time warping; its dropout of layers (0.1) and of merges (0.1) is not done.
"""

import dataclasses

from data.audio.dictated import Dictated
from data.audio.spectrograms import SpecAugment
from data.forms import AudioForm
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.word_errors import WordErrors
from experiments.experiment import Experiment, Phase
from experiments.wav2vec2.pretrain import HOURS_960
from inference.tasks.automatic_speech_recognition import AutomaticSpeechRecognition
from models.whisper import WhisperConfig
from objectives import Transcription
from training.optimizers import AdamW

WINDOW, TARGET = 480_000, 448
"""Samples of 30 s, and the most tokens."""
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
LIBRISPEECH_BASIC = SpecAugment(bands=1, spans=1)
SPLITS = dict(source="librispeech", features=("speech", "text"), held_out_split="dev_other", case="lower")


def heard(normalizer: str = "english") -> Evaluation:
    """Errors of what is written at temperature 0."""
    return Evaluation("heard", (WordErrors(normalizer),), task=AutomaticSpeechRecognition(temperatures=(0.0,)))


def spoken() -> Experiment:
    """A small model on 1,600 synthesised phrases in windows of 5 s: minutes on two CPU cores."""
    return Experiment(
        name="whisper-spoken",
        architecture="WhisperForConditionalGeneration",
        model=small_shape(),
        objective=Transcription(),
        data=Dictated(source="spoken_sentences", seconds=5),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=100, b2=0.98, weight_decay=0.1),
        batch_size=16,
        steps=2_000,
        phases=(Phase(1.0, AudioForm(80_000, target=64)),),
        evaluate_every=250,
        evaluation_examples=160,
        evaluations=(heard("basic"),),
        best=Best("heard/wer"),
        checkpoint_every=250,
        log_every=1,
    )


def small_shape(**changes) -> WhisperConfig:
    """2 layers × 128 on either side, windows of 5 s; the vocabulary is what the data need of it."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 512))
    }
    tokens = dict(vocab_size=1_024, **dict.fromkeys(TOKENS, 0), begin_suppress_tokens=None)
    shape = dict(d_model=128, max_source_positions=250, max_target_positions=64, **tokens, **sides)
    return WhisperConfig(**{**shape, **changes})


def tiny() -> Experiment:
    """Tiny as published, on 960 h of English."""
    return published("tiny", WhisperConfig.tiny, 1.5e-3)


def published(name: str, variant, learning_rate: float, **changes) -> Experiment:
    """A published size with the published settings."""
    return Experiment(
        name=f"whisper-{name}",
        architecture="WhisperForConditionalGeneration",
        model=variant(**{"dtype": "bfloat16", "scan_layers": True, "remat": "dots", **changes}),
        objective=Transcription(score_prompt=True),
        data=Dictated(**SPLITS, language="en", training_splits=HOURS_960),
        optimizer=AdamW(
            learning_rate=learning_rate, warmup_steps=2_048, b2=0.98, eps=1e-6, weight_decay=0.1, clip_norm=1.0
        ),
        batch_size=256,
        steps=1_048_576,
        phases=(Phase(1.0, AudioForm(WINDOW, target=TARGET)),),
        evaluate_every=10_000,
        checkpoint_every=10_000,
        evaluations=(heard(),),
        best=Best("heard/wer"),
        log_every=100,
    )


def base() -> Experiment:
    """Base."""
    return published("base", WhisperConfig.base, 1e-3)


def small() -> Experiment:
    """Small."""
    return published("small", WhisperConfig.small, 5e-4)


def medium() -> Experiment:
    """Medium."""
    return published("medium", WhisperConfig.medium, 2.5e-4)


def large() -> Experiment:
    """Large."""
    return published("large", WhisperConfig.large, 1.75e-4)


def large_v2() -> Experiment:
    """Large, with masked spectrograms, for 655,360 steps of 1,024 windows."""
    start = published("large-v2", WhisperConfig.large_v2, 2e-4)
    masked = dataclasses.replace(start.data, masking=LIBRISPEECH_BASIC)
    return dataclasses.replace(start, data=masked, batch_size=1_024, steps=655_360)
