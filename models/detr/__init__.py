"""DETR: object detection by a Transformer that predicts all objects of an image at once, one for each query.

Carion, Massa, Synnaeve, Usunier, Kirillov, Zagoruyko: "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872.
"""

from models.detr.config import DetrConfig
from models.detr.model import DetrForObjectDetection, DetrModel
from models.detr.segmentation import DetrForSegmentation

__all__ = ["DetrConfig", "DetrForObjectDetection", "DetrForSegmentation", "DetrModel"]
