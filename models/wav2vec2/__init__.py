"""Wav2Vec2: convolutions over raw audio, a Transformer encoder over their features, and its heads.

Baevski, Zhou, Mohamed, Auli: "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020, arXiv
2006.11477.
"""

from models.wav2vec2.config import Wav2Vec2Config
from models.wav2vec2.model import (
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)
from models.wav2vec2.quantizer import GumbelQuantizer

__all__ = [
    "GumbelQuantizer",
    "Wav2Vec2Config",
    "Wav2Vec2ForCTC",
    "Wav2Vec2ForPreTraining",
    "Wav2Vec2ForSequenceClassification",
    "Wav2Vec2Model",
]
