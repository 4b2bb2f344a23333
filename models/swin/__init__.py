"""Swin: a hierarchical vision Transformer with attention within windows, shifted by half a window in every second block.

Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021, arXiv
2103.14030.
"""

from models.swin.config import SwinConfig
from models.swin.model import (
    SwinBackbone,
    SwinForImageClassification,
    SwinMerging,
    SwinModel,
    relative_places,
)

__all__ = [
    "SwinBackbone",
    "SwinConfig",
    "SwinForImageClassification",
    "SwinMerging",
    "SwinModel",
    "relative_places",
]
