"""DistilBERT fine-tuned to answer questions by a span of a text.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
arXiv 1910.01108, table 2.

    lacuna train experiments/distilbert/answer.py --initial-model distilbert/distilbert-base-uncased
    lacuna predict question-answering QUESTION CONTEXT --model FOLDER

| SQuAD 1.1, dev EM / F1 | |
|---|---|
| DistilBERT | 77.7 / 85.8 |
| DistilBERT, distilled a second time on SQuAD (not done here) | 79.1 / 86.9 |
| BERT base | 81.2 / 88.5 |

The rest is as in experiments/bert/answer.py. The rate is not published: BERT's stands here.
"""

import dataclasses

from experiments.bert import answer as bert
from experiments.experiment import Experiment
from models.distilbert import DistilBertConfig


def squad() -> Experiment:
    """SQuAD 1.1 (`squad/v1.1` of TFDS), as BERT's."""
    return dataclasses.replace(
        bert.squad(),
        name="distilbert-squad",
        architecture="DistilBertForQuestionAnswering",
        model=DistilBertConfig.base(),
    )
