"""DistilBERT fine-tuned to label words: entities, parts of speech.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
arXiv 1910.01108.

    lacuna train experiments/distilbert/tag.py --initial-model distilbert/distilbert-base-cased
    lacuna predict token-classification TEXT --model FOLDER

The paper has no score of it. The rest is as in experiments/bert/tag.py.
"""

import dataclasses

from experiments.bert import tag as bert
from experiments.experiment import Experiment
from models.distilbert import DistilBertConfig


def conll2003() -> Experiment:
    """Entities of CoNLL-2003 (`conll2003` of TFDS), as BERT's, with the cased model."""
    return dataclasses.replace(
        bert.conll2003(),
        name="distilbert-conll2003",
        architecture="DistilBertForTokenClassification",
        model=DistilBertConfig.base(vocab_size=28_996),
    )
