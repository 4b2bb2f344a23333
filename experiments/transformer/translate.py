"""The Transformer of 2017, trained to translate.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin: "Attention Is All You Need", 2017, arXiv 1706.03762.

    lacuna train experiments/transformer/translate.py          verses of the Bible, English to Spanish: minutes on a laptop
    lacuna train experiments/transformer/translate.py:base     as published, on TFDS wmt14_translate/de-en

| | base | big |
|---|---|---|
| BLEU, newstest2014, English to German (table 2) | 27.3 | 28.4 |
| BLEU, newstest2014, English to French (table 2) | 38.1 | 41.8 |
| steps, time on 8 P100 as published | 100,000, 12 hours | 300,000, 3.5 days |

Batches were of about 25,000 tokens a side, sentences of like length together; here they are of as many sentences as hold
25,000 tokens at the length of 64, where a German sentence of the training set has 30 or so and few are cut. The last 5
(big: 20) checkpoints were averaged and beams of 4 with a length penalty of 0.6 searched; a run here leaves its last one.
"""

import dataclasses

from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from experiments.experiment import Experiment, Phase
from experiments.small import BIBLE, ENCODER_DECODER, sibling, translated
from inference.tasks.translation import Translation
from models.transformer import TransformerConfig
from objectives import Seq2Seq
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small Transformer on 31,000 verses, of which 3 % are held out; `bible.py` beside this file makes `bible.tsv`."""
    return sibling(
        "transformer",
        "TransformerForConditionalGeneration",
        TransformerConfig(vocab_size=4_096, max_position_embeddings=64, **ENCODER_DECODER),
        Seq2Seq(label_smoothing=0.1),
        data=BIBLE,
        optimizer=AdamW(
            learning_rate=2e-3, warmup_steps=400, decay="inverse_sqrt", b2=0.98, eps=1e-9, weight_decay=0.0
        ),
        batch_size=32,
        phases=(Phase(1.0, PairForm(64, 64, buckets=12)),),
        evaluations=(translated(_task(64), examples=256, every=1_500),),
    )


def base() -> Experiment:
    """The base model: 100,000 steps; the rate is d_model^-0.5 · min(step^-0.5, step · 4000^-1.5) (equation 3)."""
    model = TransformerConfig.base(dtype="bfloat16", scan_layers=True)
    data = Pairs(source="wmt14_translate/de-en", features=("en", "de"), held_out_split="validation")
    test = dataclasses.replace(data, training_split="", held_out_split="test")
    return Experiment(
        name="transformer-base",
        architecture="TransformerForConditionalGeneration",
        model=model,
        objective=Seq2Seq(label_smoothing=0.1),
        data=data,
        optimizer=_published(model.d_model),
        batch_size=384,
        steps=100_000,
        phases=(Phase(1.0, PairForm(64, 64, buckets=16)),),
        evaluations=(translated(_task(128), "newstest2014", data=test, every=100_000, examples=3_003),),
        log_every=100,
    )


def big() -> Experiment:
    """The big model: 300,000 steps with dropout 0.3."""
    model = TransformerConfig.big(dtype="bfloat16", scan_layers=True)
    return dataclasses.replace(
        base(), name="transformer-big", model=model, optimizer=_published(model.d_model), steps=300_000
    )


def _task(longest: int) -> Translation:
    return Translation(generation=FrozenDict(num_beams=4, length_penalty=0.6, max_length=longest))


def _published(d_model: int) -> AdamW:
    return AdamW(
        learning_rate=(d_model * 4_000) ** -0.5,
        warmup_steps=4_000,
        decay="inverse_sqrt",
        b2=0.98,
        eps=1e-9,
        weight_decay=0.0,
        clip_norm=None,
    )
