"""DistilGPT-2 pretraining: DistilBERT's method on GPT-2.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT", 2019, arXiv 1910.01108. The model, of which there is
no paper, was released with it by Hugging Face.

    lacuna train experiments/gpt2/pretrain.py                    a small GPT-2, minutes on a laptop: the teacher
    lacuna train experiments/distilgpt2/pretrain.py              its student of half the layers
    lacuna train experiments/distilgpt2/pretrain.py:alone        the same student on the same data without a teacher
    lacuna train experiments/distilgpt2/pretrain.py:published    82 M parameters, on TFDS c4/webtextlike

| | GPT-2 small | DistilGPT-2 |
|---|---|---|
| WikiText-103 test perplexity, fine-tuned on its training set | 16.3 | 21.1 |

The data were OpenWebText, which TFDS has not; the weights of the losses and the rest of the recipe of the release were not
published.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.gpt2 import pretrain as gpt2
from models.gpt2 import GPT2Config
from objectives import CausalLM, Distillation
from training.optimizers import AdamW


def demo() -> Experiment:
    """A student of 2 layers, which begins as layers 0 and 2 of the small GPT-2 of 4: train that one first."""
    return dataclasses.replace(
        alone(),
        name="distilgpt2-sibling",
        objective=Distillation(CausalLM()),
        teacher="runs/gpt2-sibling/model",
        initial_layers=(0, 2),
    )


def alone() -> Experiment:
    """The student without its teacher, from a fresh start: the small GPT-2 with half of its layers."""
    teacher = gpt2.demo()
    return dataclasses.replace(
        teacher, name="distilgpt2-alone-sibling", model=dataclasses.replace(teacher.model, n_layer=2)
    )


def published() -> Experiment:
    """DistilGPT-2 by DistilBERT's recipe: T = 2, weights of 5, 2 and 1, and that script's optimizer.

    3 passes over some 9,000 M tokens are 6,500 steps of 4,096 windows.
    """
    steps = 6_500
    return Experiment(
        name="distilgpt2",
        architecture="GPT2LMHeadModel",
        model=GPT2Config.distil(dtype="bfloat16", scan_layers=True),
        objective=Distillation(CausalLM()),
        data=Text(source="c4/webtextlike", kind="byte_bpe"),
        optimizer=AdamW(
            learning_rate=5e-4, warmup_steps=steps // 20, b2=0.98, eps=1e-6, weight_decay=0.0, clip_norm=5.0
        ),
        batch_size=4_096,
        steps=steps,
        phases=(Phase(1.0, TextForm(1_024)),),
        teacher="openai-community/gpt2",
        initial_layers=(0, 2, 4, 7, 9, 11),
        log_every=10,
    )
