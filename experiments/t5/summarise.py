"""T5 fine-tuned to summarise: the task stands in words before the text.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2019, arXiv 1910.10683, sections 2.3, 3.1 and 3.7.

    lacuna train experiments/t5/summarise.py          minutes on a laptop; --initial-model runs/t5-sibling begins there
    lacuna train experiments/t5/summarise.py:cnn --initial-model google-t5/t5-base
    lacuna predict summarization TEXT --model FOLDER

| CNN/DailyMail, test (table 14) | ROUGE-1 | ROUGE-2 | ROUGE-L |
|---|---|---|---|
| small | 41.12 | 19.56 | 38.35 |
| base | 42.05 | 20.34 | 39.40 |
| large | 42.50 | 20.68 | 39.75 |
| 3B | 42.72 | 21.02 | 39.94 |
| 11B | 43.52 | 21.55 | 40.69 |

ROUGE-L is `rouge_lsum` here; ROUGE-2 of the baseline, pretrained on C4 alone, is 19.24 on validation (table 15). As published: a
constant rate of 0.001, batches of 128 × 512 tokens, 2^18 steps, dropout 0.1, the best checkpoint of every 5,000 steps on
validation, beams of 4 with a length penalty of 0.6.
"""

import dataclasses

from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from evaluation.evaluation import Best
from experiments.experiment import Experiment, Phase
from experiments.small import SYNOPSES, on_test, summarised, writing_sibling
from experiments.t5.pretrain import demo
from inference.tasks.summarization import Summarization
from models.t5 import T5Config
from objectives import Seq2Seq
from training.optimizers import Adafactor

PREFIX = "summarize: "


def synopses() -> Experiment:
    """The one-line synopses of Debian's packages, with the small T5 of `experiments/t5/pretrain.py`."""
    task = Summarization(generation=FrozenDict(num_beams=4, max_length=32, no_repeat_ngram_size=3))
    return writing_sibling(
        "t5-synopses",
        "T5ForConditionalGeneration",
        demo().model,
        Seq2Seq(start="pad"),
        dataclasses.replace(SYNOPSES, kind="unigram", prefix=PREFIX),
        optimizer=Adafactor(learning_rate=0.01, constant_steps=1_000),
        phases=(Phase(1.0, PairForm(128, 32, buckets=12)),),
        evaluations=(summarised(task, examples=256),),
        best=Best("written/rouge_l", more_is_better=True),
    )


def fine_tuned(name: str, data: Pairs, form: PairForm) -> Experiment:
    """T5-base on pairs of texts, by the baseline's recipe; not yet evaluated."""
    steps = 2**18
    return Experiment(
        name=name,
        architecture="T5ForConditionalGeneration",
        model=T5Config.base(dtype="bfloat16", scan_layers=True),
        objective=Seq2Seq(start="pad"),
        data=data,
        optimizer=Adafactor(learning_rate=1e-3, constant_steps=steps),
        batch_size=128,
        steps=steps,
        phases=(Phase(1.0, form),),
        evaluate_every=5_000,
        checkpoint_every=5_000,
        log_every=100,
    )


def cnn() -> Experiment:
    """CNN and Daily Mail's highlights of their articles, with T5-base."""
    features = ("article", "highlights")
    data = Pairs("cnn_dailymail", features=features, kind="unigram", prefix=PREFIX, held_out_split="validation")
    base = fine_tuned("t5-base-cnn", data, PairForm(512, 512, buckets=16))
    task = Summarization(generation=FrozenDict(num_beams=4, length_penalty=0.6, max_length=200))
    evaluations = on_test(summarised, task, data, base.steps, 11_490)
    return dataclasses.replace(base, evaluations=evaluations, best=Best("written/rouge2", more_is_better=True))
