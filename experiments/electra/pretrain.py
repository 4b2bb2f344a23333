"""ELECTRA pretraining: which tokens are not the original?

Clark, Luong, Le, Manning: "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020, arXiv
2003.10555.

    lacuna train experiments/electra/pretrain.py           minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/electra/pretrain.py:small     as published, on TFDS wikipedia/20230601.en

The released code (github.com/google-research/electra, README) trains the small one, 1 M steps, in slightly over 4 days of
a V100, on OpenWebText; fine-tuned, its medians on the development sets are 56.8 (CoLA, Matthews), 88.3 (SST, accuracy)
and 78.9 (MNLI, accuracy). The three that were released trained longer or on more text.

Shapes, the size of the generator, the share of masked tokens, batches, lengths, the optimizer's settings and the weights
of the losses are those of `configure_pretraining.py` there and of the paper's table 6, to which it refers; the released
code also has the norm that the two models share with their embeddings, the clipping of the gradient, Adam without
correction for bias, and the 15 % of the chosen tokens that are shown as they are.

The published data of small and base are BERT's: BooksCorpus, which TFDS does not have, and English Wikipedia; those of
large are XLNet's 33 B tokens, of which Wikipedia stands here, too. What a run exports is the discriminator, with the
generator in a folder inside it.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import LENGTH, VOCABULARY, sibling
from models.electra import ElectraConfig
from objectives import MaskedLM, ReplacedTokenDetection
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small ELECTRA with a generator half as wide; what its siblings share and why is said in experiments/small.py.

    Its start is that of the small BERT (experiments/bert/pretrain.py says why).
    """
    return sibling(
        "electra",
        "ElectraForJointPreTraining",
        ElectraConfig(
            vocab_size=VOCABULARY,
            embedding_size=128,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,
            local_start=True,
            generator_size=0.5,
        ),
        ReplacedTokenDetection(),
    )


def small() -> Experiment:
    """ELECTRA-small as published: 1 M steps of 128 sequences of 128 tokens."""
    return Experiment(
        name="electra-small",
        architecture="ElectraForJointPreTraining",
        model=ElectraConfig.small(dtype="bfloat16", scan_layers=True),
        objective=ReplacedTokenDetection(),
        data=Text(source="wikipedia/20230601.en"),
        optimizer=AdamW(learning_rate=5e-4, warmup_steps=10_000, bias_correction=False),
        batch_size=128,
        steps=1_000_000,
        phases=(Phase(1.0, TextForm(128)),),
        log_every=100,
    )


def base() -> Experiment:
    """ELECTRA-base as published: 766,000 steps of 256 sequences of 512 tokens."""
    return dataclasses.replace(
        small(),
        name="electra-base",
        model=ElectraConfig.base(dtype="bfloat16", scan_layers=True),
        optimizer=AdamW(learning_rate=2e-4, warmup_steps=10_000, bias_correction=False),
        batch_size=256,
        steps=766_000,
        phases=(Phase(1.0, TextForm(512)),),
    )


def large() -> Experiment:
    """ELECTRA-large as published (400K): 400,000 steps of 2,048 sequences, 25 % of the tokens masked."""
    masking = MaskedLM(rate=0.25, mask_rate=0.85, random_rate=0.0)
    return dataclasses.replace(
        base(),
        name="electra-large",
        model=ElectraConfig.large(dtype="bfloat16", scan_layers=True, remat="dots"),
        objective=ReplacedTokenDetection(masking=masking),
        batch_size=2_048,
        steps=400_000,
    )
