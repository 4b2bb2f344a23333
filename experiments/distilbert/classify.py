"""DistilBERT fine-tuned to tell texts apart.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT", 2019, arXiv 1910.01108, section 4.

    lacuna train experiments/distilbert/classify.py          minutes on a laptop
    lacuna predict text-classification TEXT --model FOLDER

`--initial-model runs/distilbert-sibling` begins with what the small pretraining run left.
GLUE, with its published scores, is `experiments/distilbert/glue.py`.
"""

from experiments.distilbert.pretrain import alone
from experiments.experiment import Experiment
from experiments.small import genre_sibling


def genres() -> Experiment:
    """Genres of the Brown corpus, with the small model of `experiments/distilbert/pretrain.py`."""
    return genre_sibling("distilbert", "DistilBertForSequenceClassification", alone().model, "wordpiece")
