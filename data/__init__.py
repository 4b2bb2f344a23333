"""Where examples come from: documents, tokenizers, the tokenised corpus, windows of text, and the loader.

Nothing here needs TensorFlow, nor another package of this code base; nor, but for `augmentation`, which runs on the device, and
`images`, which holds its settings, does it import JAX (Grain's workers would pay for it).
"""

from data.errors import DataError

__all__ = ["DataError"]
