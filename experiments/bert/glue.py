"""BERT fine-tuned on GLUE.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805, section 4.1.

    lacuna train experiments/bert/glue.py:sst2 --initial-model google-bert/bert-base-uncased
    lacuna train experiments/bert/glue.py:mnli --initial-model google-bert/bert-base-uncased
    lacuna predict text-classification TEXT --model FOLDER

| test, from the server (table 1) | MNLI-m / mm | QQP | QNLI | SST-2 | CoLA | STS-B | MRPC | RTE |
|---|---|---|---|---|---|---|---|---|
| base | 84.6 / 83.4 | 71.2 | 90.5 | 93.5 | 52.1 | 85.8 | 88.9 | 66.4 |
| large | 86.7 / 85.9 | 72.1 | 92.7 | 94.9 | 60.5 | 86.5 | 89.3 | 70.1 |

F1 for QQP and MRPC, Spearman's correlation for STS-B, Matthews' for CoLA, accuracy for the rest; WNLI was left out. On
validation, which is what is evaluated here, BERT base has CoLA 56.3, MRPC 88.6, QNLI 91.8, QQP 89.6, RTE 69.3, SST-2 92.7,
STS-B 89.0 and WNLI 53.5 by table 1 of arXiv 1910.01108.

Published are batches of 32, three epochs and, for each task, the best on validation of the rates 5e-5, 4e-5, 3e-5 and 2e-5;
at most an hour on one Cloud TPU. Here it is 2e-5 everywhere: set `--optimizer.learning-rate`. The small run that needs no
TFDS is `experiments/bert/classify.py`.
"""

import dataclasses

from experiments.bert.classify import labelled
from experiments.experiment import Experiment
from experiments.glue import TASKS, Recipe, variants
from training.optimizers import AdamW


def _base() -> Experiment:
    return dataclasses.replace(labelled(), name="bert", optimizer=AdamW(bias_correction=False))


cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli = variants(__name__, _base, **dict.fromkeys(TASKS, Recipe()))
