"""Wav2Vec2 fine-tuned to transcribe speech, by connectionist temporal classification.

Baevski, Zhou, Mohamed, Auli: "wav2vec 2.0", 2020, arXiv 2006.11477, sections 4.3 and B, with the
settings of the released recipes.

    lacuna train experiments/wav2vec2/ctc.py     minutes on a laptop, on speech that is synthesised there
    lacuna train experiments/wav2vec2/ctc.py:hours_100 --initial-model facebook/wav2vec2-base     on TFDS librispeech
    lacuna train experiments/wav2vec2/ctc.py:hours_10 --data.source rows.tsv --initial-model facebook/wav2vec2-base

WER of test-clean / test-other as published, without a language model, by what was pretrained on:

| labels | base, 960 h | large, 960 h | large, LibriVox |
|---|--:|--:|--:|
| 10 min | 46.9 / 50.9 | 43.5 / 45.3 | 40.2 / 38.7 |
| 1 h | 24.5 / 29.7 | 22.1 / 25.3 | 17.2 / 20.3 |
| 10 h | 11.1 / 17.6 | 8.0 / 12.1 | 6.3 / 10.0 |
| 100 h | 6.1 / 13.3 | 4.7 / 9.0 | 3.1 / 6.3 |
| 960 h | 3.4 / 8.5 | 2.8 / 6.3 | 2.2 / 4.5 |

The three smallest are the limited sets of Libri-Light, which are no TFDS data set: a table of files and texts will do. The
convolutions stay as they were pretrained; so does the Transformer for the first 10,000 steps. The paper has 8 GPUs of 3.2
million samples a step, here 128 recordings.
"""

import dataclasses

from data.audio.transcribed import Transcribed
from data.forms import AudioForm
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.transcripts import Transcripts
from experiments.experiment import Experiment, Phase
from experiments.wav2vec2.pretrain import HOURS_960, SMALL_CONV, small_shape
from models.wav2vec2 import Wav2Vec2Config
from objectives import Ctc
from training.optimizers import AdamW, TriStage

HEAD, ENCODER = "lm_head", r"^(?!.*feature_extractor)"
"""Patterns of what is trained: the output layer, and then all but the convolutions."""
SPLITS = dict(source="librispeech", features=("speech", "text"), held_out_split="dev_other", do_normalize=False)


def spoken() -> Experiment:
    """A small model from scratch on 1,600 synthesised phrases: minutes on two CPU cores; `--initial-model` takes what
    `experiments/wav2vec2/pretrain.py` leaves."""
    return Experiment(
        name="wav2vec2-spoken-ctc",
        architecture="Wav2Vec2ForCTC",
        model=small_shape(mask_time_prob=0.05),
        objective=Ctc(**SMALL_CONV, hidden_size=128, mask_time_length=5),
        data=Transcribed(source="spoken_sentences"),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=100, b2=0.98),
        batch_size=16,
        steps=2_000,
        phases=(Phase(1.0, AudioForm(72_000, target=64, buckets=4)),),
        evaluate_every=250,
        evaluation_examples=160,
        evaluations=(Evaluation(metrics=(Transcripts(),)),),
        best=Best("wer"),
        checkpoint_every=250,
        log_every=1,
    )


def hours_100() -> Experiment:
    """100 h with base: all but the convolutions for 50,000 steps."""
    return Experiment(
        name="wav2vec2-100h",
        architecture="Wav2Vec2ForCTC",
        model=shape(Wav2Vec2Config.base),
        objective=Ctc(mask_time_prob=0.5, mask_feature_prob=0.512),
        data=Transcribed(**SPLITS, training_splits=("train_clean100",)),
        optimizer=three_stages(3e-5, 50_000),
        batch_size=128,
        steps=50_000,
        phases=(Phase(1.0, AudioForm(560_000, target=600, buckets=8), ENCODER),),
        evaluations=(Evaluation(metrics=(Transcripts(),)),),
        best=Best("wer"),
        log_every=100,
    )


def shape(variant, **changes) -> Wav2Vec2Config:
    """A published variant as it was fine-tuned."""
    silent = dict.fromkeys(("hidden_dropout", "attention_dropout", "final_dropout"), 0.0)
    return variant(**{**silent, "layerdrop": 0.1, "dtype": "bfloat16", "scan_layers": True, **changes})


def three_stages(learning_rate: float, steps: int) -> TriStage:
    """A tenth of the steps the rate grows, four tenths it stays, then it falls to a twentieth."""
    return TriStage(
        learning_rate=learning_rate,
        warmup_steps=steps // 10,
        hold_steps=steps * 4 // 10,
        b2=0.98,
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=None,
    )


def hours_960() -> Experiment:
    """960 h with base, for 320,000 steps."""
    return dataclasses.replace(
        hours_100(),
        name="wav2vec2-960h",
        objective=Ctc(mask_time_prob=0.5, mask_feature_prob=0.1),
        data=Transcribed(**SPLITS, training_splits=HOURS_960),
        optimizer=three_stages(1e-4, 320_000),
        steps=320_000,
    )


def hours_960_lv60() -> Experiment:
    """960 h with large and layer norms, for 320,000 steps."""
    start = hours_960()
    return dataclasses.replace(
        start,
        name="wav2vec2-960h-lv60",
        model=shape(Wav2Vec2Config.large_lv60),
        objective=Ctc(mask_time_prob=0.5, mask_feature_prob=0.25, hidden_size=1_024),
        data=dataclasses.replace(start.data, do_normalize=True),
        optimizer=three_stages(3e-5, 320_000),
    )


def few(name: str, steps: int, frames: float, features: float) -> Experiment:
    """Few labels: the output layer alone for 10,000 steps, then the Transformer, too."""
    start = hours_100()
    (phase,) = start.phases
    alone = 10_000 / steps
    return dataclasses.replace(
        start,
        name=f"wav2vec2-{name}",
        objective=Ctc(mask_time_prob=frames, mask_feature_prob=features),
        data=Transcribed(source="rows.tsv", do_normalize=False),
        optimizer=three_stages(5e-5, steps),
        steps=steps,
        phases=(
            dataclasses.replace(phase, share=alone, trainable=HEAD),
            dataclasses.replace(phase, share=1 - alone),
        ),
    )


def hours_10() -> Experiment:
    """10 h; wants `--data.source`, a table of files and texts."""
    return few("10h", 20_000, 0.65, 0.256)


def hour_1() -> Experiment:
    """1 h; wants `--data.source`."""
    return few("1h", 13_000, 0.75, 0.256)


def minutes_10() -> Experiment:
    """10 minutes; wants `--data.source`."""
    return few("10min", 12_000, 0.75, 0.512)
