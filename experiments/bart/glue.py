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
from experiments.glue import Recipe, variants
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


cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte = variants(
    __name__,
    _base,
    cola=Recipe(2e-05, 64, 1_334, 80),
    sst2=Recipe(5e-06, 128, 5_233, 314),
    mrpc=Recipe(2e-05, 64, 1_148, 68),
    qqp=Recipe(1e-05, 32, 113_272, 6_796),
    stsb=Recipe(2e-05, 32, 1_799, 107),
    mnli=Recipe(5e-06, 128, 30_968, 1_858),
    qnli=Recipe(1e-05, 32, 33_112, 1_986),
    rte=Recipe(1e-05, 32, 1_018, 61),
)
