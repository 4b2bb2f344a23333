"""DistilBERT pretraining: a student of half the layers learns what BERT would say, beside what the text says.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
arXiv 1910.01108.

    lacuna train experiments/bert/pretrain.py                    the small BERT of `make pretrain`: the teacher
    lacuna train experiments/distilbert/pretrain.py              its student of half the layers
    lacuna train experiments/distilbert/pretrain.py:alone        the same student on the same data without a teacher
    lacuna train experiments/distilbert/pretrain.py:published    66 M parameters, on TFDS wikipedia/20230601.en

| | BERT-base | DistilBERT, uncased |
|---|---|---|
| GLUE dev, mean (table 1) | 79.5 | 77.0 |
| IMDb accuracy / SQuAD 1.1 dev EM, F1 (table 2) | 93.46 / 81.2, 88.5 | 92.82 / 77.7, 85.8 |
| hardware, time as published | | 8 V100 of 16 GB, about 90 hours |

Without the teacher's distribution the GLUE mean falls by 2.96, without the cosine by 1.46, without the masked tokens by
0.31, and from a random start by 3.69 (table 4).

The published data are English Wikipedia and the Toronto Book Corpus, which TFDS does not have. Two details of the released
script are not repeated: that rare tokens are masked more often (with probability ∝ count^-0.7), and that the position
embeddings stay as the teacher's are.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.bert import pretrain as bert
from experiments.experiment import Experiment, Phase
from experiments.small import LENGTH, VOCABULARY, sibling
from models.distilbert import DistilBertConfig
from objectives import Distillation, MaskedLM
from training.optimizers import AdamW


def demo() -> Experiment:
    """A student of one layer, which begins as the first of its teacher's two: train that one first.

    As `alone` in all else; what small siblings share and why is said in experiments/small.py. The distributions are compared
    where tokens are masked, which saves projecting the others.
    """
    return dataclasses.replace(
        alone(),
        name="distilbert-sibling",
        objective=Distillation(),
        teacher="runs/bert-demo/model",
        initial_layers=(0,),
    )


def alone() -> Experiment:
    """The student without its teacher, from a fresh start: what it is worth to have one.

    Its widths are those of the BERT of `make pretrain`, whose first layer `demo` starts from.
    """
    teacher = bert.demo().model
    return sibling(
        "distilbert-alone",
        "DistilBertForMaskedLM",
        DistilBertConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=LENGTH,
            n_layers=1,
            n_heads=teacher.num_attention_heads,
            dim=teacher.hidden_size,
            hidden_dim=teacher.intermediate_size,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_range=0.05,
            local_start=True,
        ),
        MaskedLM(),
    )


def published() -> Experiment:
    """DistilBERT: T = 2 and weights of 5, 2 and 1, by the README and the defaults of the released script.

    Published are batches of up to 4,000 sequences and 3 passes over the data. Of 512 tokens each, 3 passes over the 3,300 M
    words, about 4,300 M tokens, are some 6,200 steps; 5 % of them warm up.
    """
    steps = 6_200
    return Experiment(
        name="distilbert",
        architecture="DistilBertForMaskedLM",
        model=DistilBertConfig.base(dtype="bfloat16", scan_layers=True),
        objective=Distillation(everywhere=True),
        data=Text(source="wikipedia/20230601.en"),
        optimizer=AdamW(
            learning_rate=5e-4, warmup_steps=steps // 20, b2=0.98, eps=1e-6, weight_decay=0.0, clip_norm=5.0
        ),
        batch_size=4_096,
        steps=steps,
        phases=(Phase(1.0, TextForm(512)),),
        teacher="google-bert/bert-base-uncased",
        initial_layers=(0, 2, 4, 7, 9, 11),
        log_every=10,
    )
