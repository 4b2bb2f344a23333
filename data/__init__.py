"""Where examples come from: documents, tokenizers, the tokenised corpus, windows of text, and the loader.

Nothing here needs TensorFlow, nor another package of this code base; nor, but for `images.augmentation` and
`scenes.normalization`, which run on the device, and the sources that hold their settings, does it import JAX (Grain's workers
would pay for it).
"""

from data.errors import DataError

__all__ = ["DataError"]
