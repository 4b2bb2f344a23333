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
from experiments.glue import TASKS, Recipe, variants
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


cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli = variants(__name__, _base, **dict.fromkeys(TASKS, Recipe()))
