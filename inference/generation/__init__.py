"""Text from a model with a cache: the likeliest token each time, tokens drawn at random, or the likeliest of several beams."""

from inference.generation.config import GenerationConfig
from inference.generation.search import Generated, generate, take_rows, writes_anew

__all__ = ["Generated", "GenerationConfig", "generate", "take_rows", "writes_anew"]
