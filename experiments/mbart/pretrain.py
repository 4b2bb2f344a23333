"""mBART pretraining: BART's denoising, in a language that the text names.

Liu, Gu, Goyal, Li, Edunov, Ghazvininejad, Lewis, Zettlemoyer: "Multilingual Denoising Pre-training for Neural Machine
Translation", 2020, arXiv 2001.08210.

    lacuna train experiments/mbart/pretrain.py             minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/mbart/pretrain.py:english     the published recipe on one of its languages, TFDS wiki40b/en

As published: 256 V100 of 32 GB, about 128,000 tokens on each, 500,000 steps, about two and a half weeks; fine-tuned on WMT16
English to Romanian 37.7 BLEU, Romanian to English 37.8, against 34.3 and 34.0 from random initialisation.

The published model is trained on 25 languages of Common Crawl, the rare ones drawn more often than they occur. A run here
reads one source in one language. Dropout went down from 0.1 to 0.05 after 250,000 steps and to 0 after 400,000, which is not
done here; the peak of the learning rate is not in our sources, and BART's stands here.
"""

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import ENCODER_DECODER, LENGTH, VOCABULARY, sibling
from models.mbart import MBartConfig
from objectives import Infilling
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small mBART of one language, whose token texts end with; the rest is in experiments/small.py."""
    return sibling(
        "mbart",
        "MBartForConditionalGeneration",
        MBartConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, scale_embedding=True, **ENCODER_DECODER),
        Infilling(infill_rate=0.35, mean_span=3.5),
        kind="unigram",
    )


def english() -> Experiment:
    """The published recipe on English alone: 500,000 steps of 256 × 128,000 tokens."""
    return Experiment(
        name="mbart-large-english",
        architecture="MBartForConditionalGeneration",
        model=MBartConfig.large_cc25(dtype="bfloat16", scan_layers=True, remat="dots"),
        objective=Infilling(infill_rate=0.35, mean_span=3.5),
        data=Text(source="wiki40b/en", kind="unigram"),
        optimizer=AdamW(learning_rate=4e-4, warmup_steps=30_000, b2=0.98, weight_decay=0.0),
        batch_size=65_536,
        steps=500_000,
        phases=(Phase(1.0, TextForm(512)),),
        log_every=100,
    )
