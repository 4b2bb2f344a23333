"""T5 pretraining: the spans that were cut out of a text.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2019, arXiv 1910.10683. Version 1.1: Shazeer, "GLU Variants Improve Transformer", 2020, arXiv
2002.05202. The mixture of denoisers: Tay et al., "UL2: Unifying Language Learning Paradigms", 2022, arXiv 2205.05131.

    lacuna train experiments/t5/pretrain.py                minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/t5/pretrain.py:baseline       the paper's baseline, on TFDS c4/en

| fine-tuned (tables 14, 15 of the paper) | GLUE | SQuAD EM | CNN/DM ROUGE-2 |
|---|---|---|---|
| baseline, 34 B tokens (validation) | 83.28 | 80.88 | 19.24 |
| small (GLUE test, SQuAD dev) | 77.4 | 79.10 | 19.56 |
| base | 82.7 | 85.44 | 20.34 |
| 3B | 88.5 | 88.53 | 21.02 |

The released models of version 1.0 were trained on C4 and on labelled tasks together; those of 1.1 on C4 alone, without
dropout. Both on Cloud TPU v3.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import VOCABULARY, sibling
from models.t5 import T5Config
from objectives import MixtureOfDenoisers, SpanCorruption
from training.optimizers import Adafactor


def demo() -> Experiment:
    """A small T5; what its siblings share and why is said in experiments/small.py.

    Its optimizer is its own, Adafactor with a rate of 0.03 after 300 steps. After 600 steps the held-out loss is 4.51 so, 4.59
    at 0.01 without decay, and 4.93 with the others' AdamW (4.91 at 5e-3), which suits neither unscaled attention nor logits.
    """
    return sibling(
        "t5",
        "T5ForConditionalGeneration",
        T5Config.small(
            vocab_size=VOCABULARY, d_model=128, d_kv=32, d_ff=512, num_layers=2, num_heads=4, dropout_rate=0.0
        ),
        SpanCorruption(),
        kind="unigram",
        optimizer=Adafactor(learning_rate=0.03, constant_steps=300),
    )


def baseline() -> Experiment:
    """The paper's baseline: T5-base, 2^19 steps of 128 sequences of 512 tokens."""
    return Experiment(
        name="t5-baseline",
        architecture="T5ForConditionalGeneration",
        model=T5Config.base(dtype="bfloat16", scan_layers=True),
        objective=SpanCorruption(),
        data=Text(source="c4/en", kind="unigram"),
        optimizer=Adafactor(),
        batch_size=128,
        steps=524_288,
        phases=(Phase(1.0, TextForm(512)),),
        log_every=100,
    )


def _released(variant: str, **changes) -> Experiment:
    """A released shape, on C4 alone: 1 M steps of 2,048 sequences."""
    model = T5Config.variant(variant, dtype="bfloat16", scan_layers=True, remat="dots", **changes)
    return dataclasses.replace(
        baseline(), name=f"t5-{variant.replace('_', '-')}", model=model, batch_size=2_048, steps=1_000_000
    )


def small() -> Experiment:
    """T5-small."""
    return _released("small")


def large() -> Experiment:
    """T5-large."""
    return _released("large")


def t5_3b() -> Experiment:
    """T5-3B."""
    return _released("t5_3b")


def v1_1_base() -> Experiment:
    """T5-base, version 1.1, without dropout."""
    return _released("v1_1_base", dropout_rate=0.0)


def v1_1_xl() -> Experiment:
    """T5-xl, version 1.1, without dropout."""
    return _released("v1_1_xl", dropout_rate=0.0)


def ul2_base() -> Experiment:
    """T5-base, version 1.1, on UL2's mixture of denoisers."""
    return dataclasses.replace(v1_1_base(), name="ul2-base", objective=MixtureOfDenoisers())
