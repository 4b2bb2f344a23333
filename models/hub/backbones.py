"""The names of backbones within the models that are on them."""

import importlib

from models.backbone import BackboneConfig
from models.hub.names import Name


def backbone_names(config: BackboneConfig, published: str, ours: str) -> tuple[Name, ...]:
    """The names of a backbone of this shape that is called so, published and ours: what `backbone` of the table of its
    `model_type` says."""
    table = importlib.import_module(f"models.hub.tables.{config.model_type}")
    return table.backbone(config, published, ours)
