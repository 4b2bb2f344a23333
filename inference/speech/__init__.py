"""Speech recognition of recordings of any length, with a model that reads windows of half a minute.

Radford et al.: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356, section 4.5, and the
authors' own implementation of it.
"""

from inference.speech.listener import Decoding, Heard, Listener
from inference.speech.tokens import SpeechTokens
from inference.speech.transcription import Segment, Transcript, transcribe
from inference.speech.words import Word

__all__ = ["Decoding", "Heard", "Listener", "Segment", "SpeechTokens", "Transcript", "Word", "transcribe"]
