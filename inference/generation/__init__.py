"""Text from a model with a cache: the likeliest token each time, tokens drawn at random, or the likeliest of several beams."""

from inference.generation.config import GenerationConfig
from inference.generation.generating import generate, stream
from inference.generation.layers import cut
from inference.generation.program import programs, writes_anew
from inference.generation.search import Generated

__all__ = ["Generated", "GenerationConfig", "cut", "generate", "programs", "stream", "writes_anew"]
