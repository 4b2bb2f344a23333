"""BART fine-tuned on GLUE: the same text for encoder and decoder, the class read at its end.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461, section 3.1.

    lacuna train experiments/bart/glue.py:sst2 --initial-model facebook/bart-large

| validation (table 2; released README) | MNLI | QNLI | QQP | RTE | SST-2 | MRPC | CoLA | STS-B |
|---|---|---|---|---|---|---|---|---|
| large | 89.9 | 94.9 | 92.5 | 87.0 | 96.6 | 90.4 | 62.8 | 91.2 |

Rates, batches, steps and warm-up are those of the released README (fairseq, examples/bart/README.glue.md), which has none for
WNLI; so are the clipping at 0.0 (none), Adam's (0.9, 0.98) and 1e-8, and the dropouts of 0.1.
"""

import dataclasses

from experiments.bert.classify import labelled
from experiments.experiment import Experiment
from experiments.glue import Recipe, fine_tuned
from models.bart import BartConfig
from training.optimizers import AdamW


def _base() -> Experiment:
    return dataclasses.replace(
        labelled(),
        name="bart-large",
        architecture="BartForSequenceClassification",
        model=BartConfig.large(attention_dropout=0.1),
        optimizer=AdamW(b2=0.98, eps=1e-8, clip_norm=None),
    )


def cola() -> Experiment:
    """Whether a sentence is acceptable English; Matthews correlation."""
    return fine_tuned(_base(), "cola", Recipe(2e-05, 64, 1_334, 80))


def sst2() -> Experiment:
    """Whether a sentence of a film review is favourable; accuracy."""
    return fine_tuned(_base(), "sst2", Recipe(5e-06, 128, 5_233, 314))


def mrpc() -> Experiment:
    """Whether two sentences say the same; accuracy and F1."""
    return fine_tuned(_base(), "mrpc", Recipe(2e-05, 64, 1_148, 68))


def qqp() -> Experiment:
    """Whether two questions ask the same; accuracy and F1."""
    return fine_tuned(_base(), "qqp", Recipe(1e-05, 32, 113_272, 6_796))


def stsb() -> Experiment:
    """How alike two sentences are, from 0 to 5: a regression; Pearson's and Spearman's correlation."""
    return fine_tuned(_base(), "stsb", Recipe(2e-05, 32, 1_799, 107))


def mnli() -> Experiment:
    """What a premise says of a hypothesis; accuracy, on genres of the training texts and, `mismatched`, on others."""
    return fine_tuned(_base(), "mnli", Recipe(5e-06, 128, 30_968, 1_858))


def qnli() -> Experiment:
    """Whether a sentence answers a question; accuracy."""
    return fine_tuned(_base(), "qnli", Recipe(1e-05, 32, 33_112, 1_986))


def rte() -> Experiment:
    """Whether one text follows from another; accuracy."""
    return fine_tuned(_base(), "rte", Recipe(1e-05, 32, 1_018, 61))
