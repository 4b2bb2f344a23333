"""GPT-2 fine-tuned to tell texts apart: the class is read at the last token.

Radford, Wu, Child, Luan, Amodei, Sutskever: "Language Models are Unsupervised Multitask Learners", 2019, OpenAI report; the head
is that of Radford, Narasimhan, Salimans, Sutskever: "Improving Language Understanding by Generative Pre-Training", 2018,
section 3.2.

    lacuna train experiments/gpt2/classify.py          minutes on a laptop; --initial-model runs/gpt2-sibling begins there
    lacuna train experiments/gpt2/classify.py:sst2 --initial-model openai-community/gpt2
    lacuna predict text-classification TEXT --model FOLDER

GPT-2's tokenizer has no pad token: `<|endoftext|>` pads, which the exported folder says. No fine-tuned score of GPT-2 is
published. For its predecessor of 117 M parameters, fine-tuned for three epochs in batches of 32 at 6.25e-5, the report of 2018
has SST-2 91.3 and CoLA 45.4 (table 4, test).
"""

import dataclasses

from experiments.bert.classify import labelled
from experiments.experiment import Experiment
from experiments.glue import Recipe, fine_tuned
from experiments.gpt2.pretrain import demo
from experiments.small import genre_sibling
from models.gpt2 import GPT2Config
from training.optimizers import AdamW


def genres() -> Experiment:
    """Genres of the Brown corpus, with the small GPT-2 of `experiments/gpt2/pretrain.py`."""
    return genre_sibling("gpt2", "GPT2ForSequenceClassification", demo().model, "byte_bpe")


def _published(task: str) -> Experiment:
    base = dataclasses.replace(
        labelled(),
        name="gpt2",
        architecture="GPT2ForSequenceClassification",
        model=GPT2Config.small(),
        optimizer=AdamW(eps=1e-8),
    )
    steps = fine_tuned(base, task).steps
    return fine_tuned(base, task, Recipe(learning_rate=6.25e-5, warmup=round(0.002 * steps)))


def sst2() -> Experiment:
    """Whether a sentence of a film review is favourable, by the recipe of 2018; accuracy."""
    return _published("sst2")


def cola() -> Experiment:
    """Whether a sentence is acceptable English, by the recipe of 2018; Matthews correlation."""
    return _published("cola")
