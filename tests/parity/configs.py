"""Small configs of every architecture that `transformers` has, for the comparisons of configs with its live classes."""

import dataclasses
from typing import Any

from models import hub
from tests.models.small_configs import SMALL
from tests.parity.reference import transformers

CLASSES = [
    (model_type, name) for model_type in SMALL for name in hub.model_classes(model_type) if hasattr(transformers, name)
]
"""Every class of ours that `transformers` has."""


def published_config(model_type: str, **changes: Any):
    """The live config of the small model."""
    kind = type(transformers.AutoConfig.for_model(model_type))
    return kind(**{**SMALL[model_type], **changes})


def fields_of(config) -> list[str]:
    """The fields of an architecture's live config, without those that all architectures have."""
    shared = {field.name for field in dataclasses.fields(transformers.PretrainedConfig)}
    names = [field.name for field in dataclasses.fields(config) if not field.name.startswith("_")]
    return [name for name in names if name not in shared] + ["chunk_size_feed_forward", "is_encoder_decoder"]
