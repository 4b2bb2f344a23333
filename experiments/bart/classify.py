"""BART fine-tuned to tell texts apart: the same text for encoder and decoder, the class read at its end.

Lewis et al.: "BART", 2019, arXiv 1910.13461, section 3.1.

    lacuna train experiments/bart/classify.py          minutes on a laptop; --initial-model runs/bart-sibling begins there

GLUE, with its published scores, is `experiments/bart/glue.py`.
"""

from experiments.bart.pretrain import demo
from experiments.experiment import Experiment
from experiments.small import genre_sibling


def genres() -> Experiment:
    """Genres of the Brown corpus, with the small model of `experiments/bart/pretrain.py`."""
    return genre_sibling("bart", "BartForSequenceClassification", demo().model, "byte_bpe")
