"""BART fine-tuned to summarise.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461, sections 3.3 and 5.3.

    lacuna train experiments/bart/summarise.py          minutes on a laptop; --initial-model runs/bart-sibling begins there
    lacuna train experiments/bart/summarise.py:cnn --initial-model facebook/bart-large
    lacuna predict summarization TEXT --model FOLDER

| test (table 3), large | ROUGE-1 | ROUGE-2 | ROUGE-L |
|---|---|---|---|
| CNN/DailyMail | 44.16 | 21.28 | 40.90 |
| CNN/DailyMail, the first three sentences | 40.42 | 17.62 | 36.67 |
| XSum | 45.14 | 22.27 | 37.25 |
| XSum, the first sentence | 16.30 | 1.60 | 11.95 |

ROUGE-L of CNN/DailyMail is `rouge_lsum` here. The paper's is computed by ROUGE-1.5.5 on tokenised text: `rouge-score` differs by
some tenths. About 5 hours on 8 V100 of 32 GB (fairseq, examples/bart/README.summarization.md, where the recipe is). Batches there
hold 65,536 tokens (XSum: half), here as many articles as that is at 1,024 tokens: 64.
"""

import dataclasses

from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from evaluation.evaluation import Best
from experiments.bart.pretrain import demo
from experiments.experiment import Experiment, Phase
from experiments.small import SYNOPSES, on_test, summarised, writing_sibling
from inference.tasks.summarization import Summarization
from models.bart import BartConfig
from objectives import Seq2Seq
from training.optimizers import AdamW


def synopses() -> Experiment:
    """The one-line synopses of Debian's packages, with the small BART of `experiments/bart/pretrain.py`."""
    task = Summarization(generation=FrozenDict(num_beams=4, max_length=32, no_repeat_ngram_size=3))
    return writing_sibling(
        "bart-synopses",
        "BartForConditionalGeneration",
        demo().model,
        Seq2Seq(label_smoothing=0.1),
        SYNOPSES,
        phases=(Phase(1.0, PairForm(128, 32, buckets=12)),),
        evaluations=(summarised(task, examples=256),),
        best=Best("written/rouge_l", more_is_better=True),
    )


def cnn() -> Experiment:
    """CNN and Daily Mail's highlights of their articles: 20,000 steps, beams of 4 with a length penalty of 2."""
    task = Summarization(
        generation=FrozenDict(num_beams=4, length_penalty=2.0, max_length=142, min_length=56, no_repeat_ngram_size=3)
    )
    data = Pairs(source="cnn_dailymail", features=("article", "highlights"), held_out_split="validation")
    steps = 20_000
    return Experiment(
        name="bart-large-cnn",
        architecture="BartForConditionalGeneration",
        model=BartConfig.large(dtype="bfloat16", scan_layers=True, remat="dots", attention_dropout=0.1),
        objective=Seq2Seq(label_smoothing=0.1),
        data=data,
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=500, eps=1e-8, clip_norm=0.1),
        batch_size=64,
        steps=steps,
        phases=(Phase(1.0, PairForm(1_024, 160, buckets=8)),),
        evaluate_every=2_000,
        checkpoint_every=2_000,
        evaluations=on_test(summarised, task, data, steps, 11_490),
        best=Best("written/rouge2", more_is_better=True),
        log_every=10,
    )


def xsum() -> Experiment:
    """The BBC's one-sentence summaries: 15,000 steps, beams of 6."""
    task = Summarization(generation=FrozenDict(num_beams=6, max_length=62, min_length=11, no_repeat_ngram_size=3))
    data = Pairs(source="xsum", features=("document", "summary"), held_out_split="validation")
    return dataclasses.replace(
        cnn(),
        name="bart-large-xsum",
        data=data,
        steps=15_000,
        phases=(Phase(1.0, PairForm(1_024, 64, buckets=8)),),
        evaluations=on_test(summarised, task, data, 15_000, 11_334),
    )
