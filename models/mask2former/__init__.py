"""Mask2Former: semantic, instance and panoptic segmentation by one network that gives a set of masks with classes.

Cheng, Misra, Schwing, Kirillov, Girdhar: "Masked-attention Mask Transformer for Universal Image Segmentation", 2021, arXiv
2112.01527.
"""

from models.mask2former.config import Mask2FormerConfig
from models.mask2former.model import Mask2FormerForUniversalSegmentation, Mask2FormerModel

__all__ = ["Mask2FormerConfig", "Mask2FormerForUniversalSegmentation", "Mask2FormerModel"]
