"""DETR: a Transformer that reads a picture's feature map and writes all its objects at once, one query each.

Carion, Massa, Synnaeve, Usunier, Kirillov, Zagoruyko: "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872.
"""

from models.detr.config import DetrConfig
from models.detr.model import DetrForObjectDetection, DetrModel
from models.detr.segmentation import DetrForSegmentation

__all__ = ["DetrConfig", "DetrForObjectDetection", "DetrForSegmentation", "DetrModel"]
