"""Very small models of annotated texts, for tests of whole runs; `--data.source` is set by the test."""

import dataclasses

from data.forms import ChoiceForm, SpanForm, TextForm
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.tags import Entities, WordAccuracy
from experiments.bert import answer as answers
from experiments.bert import choose as choices
from experiments.bert import tag as tags
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig


def small(base: Experiment, form: object, **changes) -> Experiment:
    settings = dict(
        name=f"small-{base.architecture.lower()}",
        model=BertConfig(
            vocab_size=150,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=80,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-3, warmup_steps=10, layer_decay=0.9),
        batch_size=16,
        steps=120,
        phases=(Phase(1.0, form),),
        evaluate_every=40,
        checkpoint_every=40,
    )
    return dataclasses.replace(base, **{**settings, **changes})


def tag() -> Experiment:
    metrics = (Entities(), WordAccuracy())
    evaluations = (Evaluation(metrics=metrics),)
    return small(tags.brown(), TextForm(24, buckets=2), evaluations=evaluations, best=Best("f1", more_is_better=True))


def answer() -> Experiment:
    return small(answers.pages(), SpanForm(40, stride=12, question=8), steps=160)


def choose() -> Experiment:
    return small(choices.brown(), ChoiceForm(24, choices=3))
