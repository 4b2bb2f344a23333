"""BART pretraining: the text that was there before it was corrupted.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461.

    lacuna train experiments/bart/pretrain.py              minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/bart/pretrain.py:large        as published, on TFDS wikipedia/20230601.en

| bart.large, fine-tuned | as published |
|---|---|
| MNLI / QNLI / SST-2 (GLUE dev) | 89.9 / 94.9 / 96.6 |
| SQuAD 1.1 dev, EM / F1 | 88.8 / 94.6 |
| CNN/DM, ROUGE-1 / 2 / L | 44.16 / 21.28 / 40.90 |
| XSum, ROUGE-1 / 2 / L | 45.14 / 22.27 / 37.25 |

The published data are RoBERTa's 160 GB (books, Wikipedia, CC-News, OpenWebText, Stories), which TFDS does not have whole.
Batch and steps are published, the optimizer's settings are not: RoBERTa's stand here. Dropout was switched off for the last
tenth of the steps, which is not done here.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import ENCODER_DECODER, LENGTH, VOCABULARY, sibling
from models.bart import BartConfig
from objectives import Infilling
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small BART; what its siblings share and why is said in experiments/small.py."""
    return sibling(
        "bart",
        "BartForConditionalGeneration",
        BartConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **ENCODER_DECODER),
        Infilling(),
        kind="byte_bpe",
    )


def large() -> Experiment:
    """BART-large as published: 500,000 steps of 8,000 sequences of 512 tokens."""
    return Experiment(
        name="bart-large",
        architecture="BartForConditionalGeneration",
        model=BartConfig.large(dtype="bfloat16", scan_layers=True, remat="dots"),
        objective=Infilling(),
        data=Text(source="wikipedia/20230601.en", kind="byte_bpe"),
        optimizer=AdamW(learning_rate=4e-4, warmup_steps=30_000, b2=0.98),
        batch_size=8_192,
        steps=500_000,
        phases=(Phase(1.0, TextForm(512)),),
        log_every=100,
    )


def base() -> Experiment:
    """BART-base, with which the paper compares objectives: 1 M steps on books and Wikipedia."""
    return dataclasses.replace(
        large(),
        name="bart-base",
        model=BartConfig.base(dtype="bfloat16", scan_layers=True),
        batch_size=256,
        steps=1_000_000,
        optimizer=AdamW(learning_rate=1e-4, warmup_steps=10_000, b2=0.98),
    )
