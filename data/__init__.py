"""Where examples come from: documents, tokenizers, the tokenised corpus, windows of text, and the loader.

Nothing here needs TensorFlow or imports JAX (Grain's workers would pay for it), nor another package of this code base.
"""

from data.errors import DataError

__all__ = ["DataError"]
