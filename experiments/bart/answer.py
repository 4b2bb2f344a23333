"""BART fine-tuned to answer questions by a span of a text.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461, section 5.1.

    lacuna train experiments/bart/answer.py --initial-model facebook/bart-large
    lacuna train experiments/bart/answer.py:squad2 --initial-model facebook/bart-large
    lacuna predict question-answering QUESTION CONTEXT --model FOLDER

| bart.large, dev EM / F1 | |
|---|---|
| SQuAD 1.1 | 88.8 / 94.6 |
| SQuAD 2.0 | 86.1 / 89.2 |

Question and context go into the encoder and into the decoder. The rest is as in experiments/bert/answer.py. Rate, batch and
steps are not published: BERT's stand here.
"""

import dataclasses

from experiments.bert import answer as bert
from experiments.experiment import Experiment
from models.bart import BartConfig


def squad() -> Experiment:
    """SQuAD 1.1 (`squad/v1.1` of TFDS), as BERT's."""
    return of_bart(bert.squad(), "bart-squad")


def squad2() -> Experiment:
    """SQuAD 2.0 (`squad/v2.0` of TFDS), as BERT's."""
    return of_bart(bert.squad2(), "bart-squad2")


def of_bart(experiment: Experiment, name: str) -> Experiment:
    data = dataclasses.replace(experiment.data, kind="byte_bpe")
    model = BartConfig.large()
    return dataclasses.replace(experiment, name=name, architecture="BartForQuestionAnswering", model=model, data=data)
