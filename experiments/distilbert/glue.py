"""DistilBERT fine-tuned on GLUE.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
arXiv 1910.01108, section 4.

    lacuna train experiments/distilbert/glue.py:sst2 --initial-model distilbert/distilbert-base-uncased
    lacuna predict text-classification TEXT --model FOLDER

| validation (table 1; cased: the released README) | mean | CoLA | MNLI | MRPC | QNLI | QQP | RTE | SST-2 | STS-B | WNLI |
|---|---|---|---|---|---|---|---|---|---|---|
| uncased | 77.0 | 51.3 | 82.2 | 87.5 | 89.2 | 88.5 | 59.9 | 91.3 | 86.9 | 56.3 |
| cased | 75.9 | 47.2 | 81.5 | 85.6 | 88.2 | 87.8 | 60.6 | 90.4 | 85.5 | 56.3 |

The README corrects MNLI to 82.1. Medians of five runs; their settings are not published: these are BERT's.
"""

import dataclasses

from experiments.bert.classify import labelled
from experiments.experiment import Experiment
from experiments.glue import fine_tuned
from models.distilbert import DistilBertConfig
from training.optimizers import AdamW


def _base() -> Experiment:
    return dataclasses.replace(
        labelled(),
        name="distilbert",
        architecture="DistilBertForSequenceClassification",
        model=DistilBertConfig.base(),
        optimizer=AdamW(),
    )


def cola() -> Experiment:
    """Whether a sentence is acceptable English; Matthews correlation."""
    return fine_tuned(_base(), "cola")


def sst2() -> Experiment:
    """Whether a sentence of a film review is favourable; accuracy."""
    return fine_tuned(_base(), "sst2")


def mrpc() -> Experiment:
    """Whether two sentences say the same; accuracy and F1."""
    return fine_tuned(_base(), "mrpc")


def qqp() -> Experiment:
    """Whether two questions ask the same; accuracy and F1."""
    return fine_tuned(_base(), "qqp")


def stsb() -> Experiment:
    """How alike two sentences are, from 0 to 5: a regression; Pearson's and Spearman's correlation."""
    return fine_tuned(_base(), "stsb")


def mnli() -> Experiment:
    """What a premise says of a hypothesis; accuracy, on genres of the training texts and, `mismatched`, on others."""
    return fine_tuned(_base(), "mnli")


def qnli() -> Experiment:
    """Whether a sentence answers a question; accuracy."""
    return fine_tuned(_base(), "qnli")


def rte() -> Experiment:
    """Whether one text follows from another; accuracy."""
    return fine_tuned(_base(), "rte")


def wnli() -> Experiment:
    """Whom a pronoun means; accuracy."""
    return fine_tuned(_base(), "wnli")
