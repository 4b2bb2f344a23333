"""SegFormer's encoder, the Mix Transformer, alone and with a head over classes.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
2021, arXiv 2105.15203.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import ClassVar

from models.image_classifier import ImageClassifier
from models.layers.heads import classifier
from models.mix_transformer import MixTransformer, MixTransformerConfig
from models.model import Model


@dataclasses.dataclass(frozen=True)
class SegformerConfig(MixTransformerConfig):
    """Shape of a SegFormer's encoder, with the field names of a published `config.json`; see `MixTransformerConfig`.

    Attributes:
        reshape_last_stage: whether the last stage returns a map of features; otherwise its tokens, row by row.
        labels: names of the outputs of the classification head (`id2label`).
    """

    model_type: ClassVar[str] = "segformer"
    variants: ClassVar[tuple[str, ...]] = ("b0", "b1", "b2", "b3", "b4", "b5")
    aliases: ClassVar[Mapping[str, str]] = types.MappingProxyType({"num_hidden_layers": "num_encoder_blocks"})

    reshape_last_stage: bool = True
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1_000))


class SegformerModel(MixTransformer):
    """The encoder; see `MixTransformer`."""

    config: SegformerConfig


class SegformerForImageClassification(ImageClassifier):
    """Output: `logits` (batch, labels), of the mean over all places of the last stage."""

    config: SegformerConfig
    base: ClassVar[type[Model]] = SegformerModel
    base_name: ClassVar[str] = "encoder"

    def head(self, encoded, batch_axes):
        config, hidden = self.config, encoded.last_hidden_state
        pooled = hidden.reshape(len(hidden), -1, hidden.shape[-1]).mean(axis=1)
        stddev = config.initializer_range
        return dict(logits=classifier(config, pooled, len(config.labels), "classifier", stddev=stddev))
