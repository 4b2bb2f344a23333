"""Wav2Vec2 pretraining: which quantised frame of speech is it that was masked?

Baevski, Zhou, Mohamed, Auli: "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020, arXiv
2006.11477, sections 3 and 4.2, with the settings of the released recipes.

    lacuna train experiments/wav2vec2/pretrain.py          minutes on a laptop, on speech that is synthesised there
    lacuna train experiments/wav2vec2/pretrain.py:base     as published, on TFDS librispeech (prepared where TensorFlow is)

| | GPUs and time as published | WER of test-clean/other after 100 h of labels, without a language model |
|---|---|--:|
| base, LibriSpeech 960 h, 400k steps of 1.6 h | 64 V100, 1.6 days | 6.1 / 13.3 |
| large, LibriSpeech 960 h, 250k steps of 2.7 h | 128 V100, 2.3 days | 4.7 / 9.0 |
| large, LibriVox 53,200 h, 600k steps of 2.7 h | 128 V100, 5.2 days | 3.1 / 6.3 |

LibriVox is no TFDS data set: `large_lv60` has its shape and its settings, and reads LibriSpeech. The released file of that run
has another learning rate (0.005) and 1,000,000 steps. Recordings are cropped to 15.6 s (20 s).
"""

import dataclasses

from data.audio.source import Audio
from data.forms import AudioForm
from experiments.experiment import Experiment, Phase
from models.wav2vec2 import Wav2Vec2Config
from objectives import Contrastive
from training.optimizers import AdamW

HOURS_960 = ("train_clean100", "train_clean360", "train_other500")
LIBRISPEECH = Audio(
    source="librispeech",
    features=("speech",),
    training_splits=HOURS_960,
    held_out_split="dev_other",
    do_normalize=False,
)
SMALL_CONV = dict(conv_kernel=(10, 8, 4, 4), conv_stride=(5, 4, 4, 4))
"""Four convolutions whose frames are 20 ms apart, as those of the seven published ones are."""


def spoken() -> Experiment:
    """A small model on 1,600 synthesised phrases, of which it hears 1.5 s each time: minutes on two CPU cores.

    On 262 recorded prompts in their place it has 29 to 32 % of the held-out frames right after 1,200 steps, where guessing has
    3.6 %, and 67 to 70 of its 80 codes in use (`docs/learning-speech.md`).
    """
    return Experiment(
        name="wav2vec2-spoken",
        architecture="Wav2Vec2ForPreTraining",
        model=small_shape(),
        objective=Contrastive(
            **SMALL_CONV,
            num_negatives=50,
            codes=40,
            mask_time_length=5,
            gumbel_decay=0.9985,
            feature_penalty_weight=0.0,
        ),
        data=Audio(source="spoken_sentences"),
        optimizer=AdamW(learning_rate=2e-3, warmup_steps=100, b2=0.98, clip_norm=None),
        batch_size=16,
        steps=1_200,
        phases=(Phase(1.0, AudioForm(24_000)),),
        evaluate_every=200,
        evaluation_examples=160,
        checkpoint_every=400,
        log_every=1,
    )


def small_shape(**changes) -> Wav2Vec2Config:
    """4 layers × 128, convolutions of 16 to 128 channels (the first ones are most of the cost on a CPU), two codebooks of 40."""
    shape = dict(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        initializer_range=0.05,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_dim=(16, 32, 64, 128),
        conv_bias=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=40,
        codevector_dim=64,
        proj_codevector_dim=64,
        classifier_proj_size=64,
        mask_time_prob=0.65,
        mask_time_length=5,
        **SMALL_CONV,
    )
    return Wav2Vec2Config(**{**shape, **changes})


def base() -> Experiment:
    """Base as published: 400k steps of 384 crops of 15.6 s, which are 1.6 h of audio."""
    return Experiment(
        name="wav2vec2-base",
        architecture="Wav2Vec2ForPreTraining",
        model=Wav2Vec2Config.base(
            activation_dropout=0.0,
            feat_proj_dropout=0.1,
            feat_quantizer_dropout=0.1,
            layerdrop=0.05,
            mask_time_prob=0.65,
            feature_grad_mult=0.1,
            dtype="bfloat16",
            scan_layers=True,
        ),
        objective=Contrastive(),
        data=LIBRISPEECH,
        optimizer=AdamW(learning_rate=5e-4, warmup_steps=32_000, b2=0.98, clip_norm=None),
        batch_size=384,
        steps=400_000,
        phases=(Phase(1.0, AudioForm(250_000, buckets=8)),),
        log_every=100,
    )


def large() -> Experiment:
    """Large as published on LibriSpeech: 250k steps of 512 crops of 20 s, which are 2.8 h of audio."""
    start = base()
    return dataclasses.replace(
        start,
        name="wav2vec2-large",
        model=Wav2Vec2Config.large(
            activation_dropout=0.0,
            feat_proj_dropout=0.1,
            feat_quantizer_dropout=0.1,
            layerdrop=0.2,
            mask_time_prob=0.65,
            feature_grad_mult=0.1,
            dtype="bfloat16",
            scan_layers=True,
        ),
        objective=Contrastive(least_gumbel_temperature=0.1),
        optimizer=dataclasses.replace(start.optimizer, learning_rate=3e-4, warmup_steps=20_000),
        batch_size=512,
        steps=250_000,
        phases=(Phase(1.0, AudioForm(320_000, buckets=8)),),
    )


def large_lv60() -> Experiment:
    """Large with layer norms, as published on LibriVox: 600k steps, nothing dropped, no penalty of features."""
    start = large()
    silent = ("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout", "layerdrop")
    return dataclasses.replace(
        start,
        name="wav2vec2-large-lv60",
        model=Wav2Vec2Config.large_lv60(
            **dict.fromkeys(silent, 0.0), mask_time_prob=0.65, dtype="bfloat16", scan_layers=True
        ),
        objective=dataclasses.replace(start.objective, feature_penalty_weight=0.0),
        data=dataclasses.replace(LIBRISPEECH, do_normalize=True),
        optimizer=dataclasses.replace(start.optimizer, warmup_steps=48_000),
        steps=600_000,
    )
