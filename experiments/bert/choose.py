"""BERT fine-tuned to choose which of several texts follows another.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805, section 4.4.

    lacuna train experiments/bert/choose.py --data.source FOLDER/follows --initial-model FOLDER     minutes on a laptop
    lacuna train experiments/bert/choose.py:choices --data.source FILE.jsonl --initial-model FOLDER
    lacuna train experiments/bert/choose.py:swag --data.source FOLDER --initial-model google-bert/bert-base-uncased
    lacuna predict multiple-choice TEXT CHOICE CHOICE --model FOLDER

Each choice is read as the second text of a pair with the first, and has one score. A head that a checkpoint lacks is
initialised from the seed. Rates that fall from layer to layer: `--optimizer.layer-decay 0.9`.

| | base | large |
|---|---|---|
| SWAG accuracy, dev (table 4) | 81.6 | 86.6 |
| the same, test | | 86.3 |
"""

import dataclasses

from data.forms import ChoiceForm
from data.text.annotated.choices import Choices
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.accuracy import Accuracy
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import Classification
from training.optimizers import AdamW


def brown() -> Experiment:
    """Which of four sentences of a file of Brown's follows another (`experiments/material/brown.py` makes the folder), with a
    model of the shape of MiniLM-L6.

    Some minutes on two CPU cores. All four are about the same things: chance is 25 %.
    """
    base = choices()
    return dataclasses.replace(
        base,
        name="bert-brown-follows",
        model=BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536),
        data=Choices(source="follows"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=1e-4, warmup_steps=40, bias_correction=True),
        batch_size=8,
        steps=400,
        phases=(Phase(1.0, ChoiceForm(64, buckets=8)),),
        evaluate_every=200,
        evaluation_examples=1_000,
        checkpoint_every=200,
        log_every=1,
    )


def choices() -> Experiment:
    """Choices of any source with BERT base; wants `--data.source`, and `--phases.0.form.choices` where there are not four."""
    return Experiment(
        name="bert-choices",
        architecture="BertForMultipleChoice",
        model=BertConfig.base(),
        objective=Classification(),
        data=Choices(source="choices", held_out=0.1),
        optimizer=AdamW(learning_rate=2e-5, warmup_steps=100, bias_correction=False),
        batch_size=16,
        steps=1_000,
        phases=(Phase(1.0, ChoiceForm(128, buckets=8)),),
        evaluate_every=250,
        evaluation_examples=2_048,
        evaluations=(Evaluation(metrics=(Accuracy(),)),),
        best=Best("accuracy", more_is_better=True),
        checkpoint_every=250,
    )


def swag() -> Experiment:
    """SWAG as published: three epochs of its 73,546 examples in batches of 16 at 2e-5.

    TFDS has no SWAG: `--data.source` is a folder of the published `train.csv` and `val.csv`.
    """
    return dataclasses.replace(
        choices(),
        name="bert-swag",
        data=Choices(source="swag", features=("sent1", "ending", "label"), begin="sent2"),
        optimizer=AdamW(learning_rate=2e-5, warmup_steps=1_379, bias_correction=False),
        steps=13_790,
        evaluate_every=4_597,
        evaluation_examples=20_006,
        checkpoint_every=4_597,
    )
