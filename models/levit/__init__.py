"""LeViT: a convolutional stem, then attention and MLPs in three stages of shrinking grids, with batch norms throughout.

Graham, El-Nouby, Touvron, Stock, Joulin, Jégou, Douze: "LeViT: a Vision Transformer in ConvNet's Clothing for Faster
Inference", 2021, arXiv 2104.01136; details after the released `levit.py`.
"""

from models.levit.config import STAGES, STEM, LevitConfig
from models.levit.model import (
    LevitForImageClassification,
    LevitForImageClassificationWithTeacher,
    LevitLayer,
    LevitModel,
    distances,
    fused,
)

__all__ = [
    "STAGES",
    "STEM",
    "LevitConfig",
    "LevitForImageClassification",
    "LevitForImageClassificationWithTeacher",
    "LevitLayer",
    "LevitModel",
    "distances",
    "fused",
]
