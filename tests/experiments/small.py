"""A very small experiment, for tests of whole runs."""

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import MaskedLM, NextSentence, Sum
from training.optimizers import AdamW


def small() -> Experiment:
    return Experiment(
        name="small",
        architecture="BertForPreTraining",
        model=BertConfig(
            vocab_size=512,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        ),
        objective=Sum(MaskedLM(), NextSentence()),
        data=Text(source="a folder that the test names", held_out=0.1),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=5, bias_correction=False),
        batch_size=8,
        steps=20,
        phases=(Phase(0.75, TextForm(16)), Phase(0.25, TextForm(32))),
        evaluate_every=8,
        evaluation_examples=16,
        checkpoint_every=5,
    )
