"""T5: an encoder and a decoder with pre-norm residuals and relative positions, for any task from text to text.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2019, arXiv 1910.10683. Version 1.1 has gated feed-forward layers (Shazeer: "GLU Variants Improve
Transformer", 2020, arXiv 2002.05202) and an output layer of its own.

A text is written step by step from what the encoder made of the input once:

    cache = model.apply(variables, input_ids, attention_mask, room=20, method="encode")
    outputs = model.apply(variables, decoder_input_ids=start, past_key_values=cache)
    outputs = model.apply(variables, decoder_input_ids=token, past_key_values=outputs.past_key_values)
"""

from models.t5.config import T5Config
from models.t5.model import (
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Model,
    by_query_and_key,
    relative_position_bucket,
)

__all__ = [
    "T5Config",
    "T5EncoderModel",
    "T5ForConditionalGeneration",
    "T5Model",
    "by_query_and_key",
    "relative_position_bucket",
]
