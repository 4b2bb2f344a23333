"""A very small classifier of texts, for tests of whole runs: `--data.source` is a folder of class folders."""

import dataclasses

from data.forms import TextForm
from experiments.bert.classify import mails
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig


def small() -> Experiment:
    base = mails()
    return dataclasses.replace(
        base,
        name="small-texts",
        model=BertConfig(
            vocab_size=400,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        ),
        data=dataclasses.replace(base.data, source="a folder that the test names"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-3, warmup_steps=5),
        batch_size=16,
        steps=60,
        phases=(Phase(1.0, TextForm(24)),),
        evaluate_every=15,
        checkpoint_every=15,
    )
