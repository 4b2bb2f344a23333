"""BERT fine-tuned to tell texts apart by their labels.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805, sections 4.1 and A.3.

    lacuna train experiments/bert/classify.py --data.source FOLDER --initial-model FOLDER             minutes on a laptop
    lacuna train experiments/bert/classify.py:genres --data.source FOLDER --initial-model FOLDER
    lacuna train experiments/bert/classify.py:labelled --data.source FOLDER --initial-model FOLDER
    lacuna predict text-classification TEXT --model FOLDER

Labels are named by the data. Without `--initial-model` the same model is trained from scratch. Of a checkpoint with a head for
other labels the head is left out, and one for these is initialised from the seed.

GLUE, with its published scores, is `experiments/bert/glue.py`.
"""

import dataclasses

from data.forms import TextForm
from data.text.labelled import LabelledText
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.accuracy import Accuracy
from evaluation.metrics.f1 import F1
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import Classification
from training.optimizers import AdamW


def mails() -> Experiment:
    """Wanted and unwanted mails (`experiments/material/mails.py` makes the folder), with a model of the shape of MiniLM-L6.

    An eighth of the work of BERT base's layers: some minutes on two CPU cores. The best checkpoint is that of the best F1 of
    spam, on the mails of `validation`. From scratch, the words are those of a tokenizer that is trained on the mails. 256 tokens
    are read: on `validation` a bag of some 100 words is right in 97.2 % of the mails, one of whole mails in 98.3 %.
    """
    base = labelled()
    return dataclasses.replace(
        base,
        name="bert-mails",
        model=BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536),
        data=LabelledText(source="mails", held_out=0.2),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=2e-4, warmup_steps=40, bias_correction=True),
        batch_size=16,
        steps=450,
        phases=(Phase(1.0, TextForm(256, buckets=8)),),
        evaluations=(Evaluation(metrics=(Accuracy(), F1())),),
        best=Best("f1", more_is_better=True),
        evaluate_every=150,
        checkpoint_every=150,
        log_every=1,
    )


def genres() -> Experiment:
    """Genres of passages of the Brown corpus (`experiments/material/genres.py` makes the folder), with the model of `mails`."""
    return dataclasses.replace(
        mails(),
        name="bert-genres",
        data=LabelledText(source="genres", held_out=0.2),
        steps=400,
        evaluations=labelled().evaluations,
        best=labelled().best,
        evaluate_every=200,
        checkpoint_every=200,
    )


def labelled() -> Experiment:
    """Texts of any labels with BERT base; wants `--data.source`. The best checkpoint has the best mean F1 of the labels.

    One of the published choices of batch and rate (16 or 32; 5e-5, 3e-5 or 2e-5), for 1,000 steps: set `--steps` to some three
    epochs.
    """
    return Experiment(
        name="bert-labelled",
        architecture="BertForSequenceClassification",
        model=BertConfig.base(),
        objective=Classification(),
        data=LabelledText(source="labelled", held_out=0.1),
        optimizer=AdamW(learning_rate=5e-5, warmup_steps=100, bias_correction=False),
        batch_size=32,
        steps=1_000,
        phases=(Phase(1.0, TextForm(128, buckets=8)),),
        evaluate_every=200,
        evaluation_examples=2_048,
        evaluations=(Evaluation(metrics=(Accuracy(), F1(average="macro"))),),
        best=Best("macro_f1", more_is_better=True),
        checkpoint_every=200,
    )
