"""T5 fine-tuned to translate: the languages stand in words before the text.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2019, arXiv 1910.10683, sections 2.3 and 3.7.

    lacuna train experiments/t5/translate.py          minutes on a laptop; --initial-model runs/t5-sibling begins there
    lacuna train experiments/t5/translate.py:german --initial-model google-t5/t5-base
    lacuna predict translation TEXT --model FOLDER

| BLEU, test (table 14) | small | base | large | 3B | 11B |
|---|---|---|---|---|---|
| English to German, newstest2014 | 26.7 | 30.9 | 32.0 | 31.8 | 32.1 |
| English to Romanian, newstest2016 | 26.8 | 28.0 | 28.1 | 28.2 | 28.1 |

The baseline, pretrained on C4 alone, has 26.98 and 27.65 on validation (table 15). The recipe is that of `summarise.py` beside
this file, with pairs of 512 tokens as published; `--phases.0.form.source 128 --phases.0.form.target 128` holds nearly all
sentences.
"""

import dataclasses

from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from evaluation.evaluation import Best
from experiments.experiment import Experiment
from experiments.small import BIBLE, on_test, translated, writing_sibling
from experiments.t5.pretrain import demo
from experiments.t5.summarise import fine_tuned
from inference.tasks.translation import Translation
from objectives import Seq2Seq
from training.optimizers import Adafactor


def bible() -> Experiment:
    """Verses of the Bible, English to Spanish, with the small T5 of `experiments/t5/pretrain.py`."""
    return writing_sibling(
        "t5-bible",
        "T5ForConditionalGeneration",
        dataclasses.replace(demo().model, vocab_size=4_096),
        Seq2Seq(start="pad"),
        dataclasses.replace(BIBLE, kind="unigram", prefix="translate English to Spanish: "),
        optimizer=Adafactor(learning_rate=0.01, constant_steps=1_000),
    )


def _published(name: str, source: str, features: tuple[str, str], language: str) -> Experiment:
    prefix = f"translate English to {language}: "
    data = Pairs(source=source, features=features, kind="unigram", prefix=prefix, held_out_split="validation")
    base = fine_tuned(name, data, PairForm(512, 512, buckets=16))
    task = Translation(generation=FrozenDict(num_beams=4, length_penalty=0.6, max_length=256))
    evaluations = on_test(translated, task, data, base.steps, 3_003)
    return dataclasses.replace(base, evaluations=evaluations, best=Best("written/bleu", more_is_better=True))


def german() -> Experiment:
    """WMT14's English to German, with T5-base."""
    return _published("t5-base-german", "wmt14_translate/de-en", ("en", "de"), "German")


def romanian() -> Experiment:
    """WMT16's English to Romanian, with T5-base."""
    return _published("t5-base-romanian", "wmt16_translate/ro-en", ("en", "ro"), "Romanian")
