"""The settings of a Mask2Former."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from models.backbone import BackboneConfig, WithBackbone
from models.config import ModelConfig, ModelError, Variant, alias
from models.layers.activations import activation
from models.resnet import ResNetConfig
from models.swin import SwinConfig

STAGES = ("stage1", "stage2", "stage3", "stage4")
STRIDES = (4, 8, 16, 32)
"""Pixels from place to place in the backbone's feature maps."""
LEVELS = 3
"""Feature maps that the pixel decoder attends among and queries look at: all but the first."""
POINTS = 4
"""Points of each level that a head of the pixel decoder looks up."""
GROUPS = 32
"""Of group norms."""
SWIN = dict(drop_path_rate=0.3, out_features=STAGES)


def numbered(count: int) -> tuple[str, ...]:
    """Names of so many classes."""
    return tuple(f"LABEL_{number}" for number in range(count))


@dataclasses.dataclass(frozen=True)
class Mask2FormerConfig(WithBackbone):
    """Shape of a Mask2Former, with the field names of a published `config.json`.

    What weighs costs and losses there (`class_weight`, `train_num_points`, …) are settings of the objective here, and outputs of
    every layer of the decoder are given whatever `use_auxiliary_loss` says.

    Attributes:
        backbone_config: of a Swin or a ResNet that gives all four stages.
        feature_size: features of the pixel decoder; 32 must divide it, as group norms want it.
        mask_feature_size: of the map whose products with queries are masks.
        hidden_dim: features of the queries.
        encoder_feedforward_dim, encoder_layers: of the pixel decoder's layers.
        decoder_layers: one more than the decoder has: predictions are made before the first layer, too.
        dropout: of attention probabilities, in feed-forward layers and of what is added to residual connections. `transformers`
            skips whole layers as often, too.
        num_queries: most segments that can be found in a picture.
        no_object_weight: what a query that is to find nothing weighs in the loss; a file holds it among the parameters, too.
        labels: names of the classes (`id2label`); the logits have one more behind them, for no object.
        freeze_batch_norm: as of a ResNet's (`ResNetConfig`): true, as the published models were trained. (`transformers` moves
            statistics unless it is told to evaluate.) A setting of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "mask2former"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="hidden_dim", num_hidden_layers="decoder_layers")
    )
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "freeze_batch_norm")
    variants: ClassVar[tuple[str, ...]] = (
        *("resnet50", "resnet101", "swin_tiny", "swin_small", "swin_base", "swin_large"),
    )
    default_backbone: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"model_type": "swin", "depths": (2, 2, 18, 2), **SWIN}
    )
    hidden_size = alias("hidden_dim")

    backbone_config: BackboneConfig = SwinConfig.small(**SWIN)
    feature_size: int = 256
    mask_feature_size: int = 256
    hidden_dim: int = 256
    encoder_feedforward_dim: int = 1_024
    activation_function: str = "relu"
    encoder_layers: int = 6
    decoder_layers: int = 10
    num_attention_heads: int = 8
    dropout: float = 0.0
    dim_feedforward: int = 2_048
    pre_norm: bool = False
    enforce_input_projection: bool = False
    common_stride: int = 4
    num_queries: int = 100
    no_object_weight: float = 0.1
    init_std: float = 0.02
    init_xavier_std: float = 1.0
    feature_strides: tuple[int, ...] = STRIDES
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    freeze_batch_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation_function)
        self.check_divides("feature_size", "num_attention_heads")
        self.check_divides("hidden_dim", "num_attention_heads")
        if self.feature_size % GROUPS or self.hidden_dim % 4:
            raise ModelError(
                f"feature_size={self.feature_size}, hidden_dim={self.hidden_dim}: group norms want a multiple of {GROUPS} for the"
                " first, sines and cosines of rows and columns a multiple of 4 for the second"
            )
        if self.pre_norm:
            raise ModelError(
                "pre_norm is set: only norms behind what they add to are implemented, as published models have"
            )
        if self.common_stride != STRIDES[0] or self.feature_strides != STRIDES:
            raise ModelError(
                f"common_stride={self.common_stride}, feature_strides={self.feature_strides}: only {STRIDES[0]} and {STRIDES}"
                " are implemented"
            )
        backbone = self.backbone_config
        strides = dict(zip(backbone.stage_names, backbone.strides_by_stage, strict=True))
        if tuple(strides[name] for name in backbone.stages_out) != STRIDES:
            raise ModelError(
                f"backbone_config gives the maps of {', '.join(backbone.stages_out)}: expected four, with {STRIDES} pixels from"
                f" place to place; its out_features must be {', '.join(STAGES)}"
            )

    swin_small = Variant()
    swin_tiny = Variant(backbone_config=SwinConfig.tiny(**SWIN))
    swin_base = Variant(backbone_config=SwinConfig.base_384(**SWIN))
    swin_large = Variant(backbone_config=SwinConfig.large_384(**SWIN))
    resnet50 = Variant(backbone_config=ResNetConfig.resnet50(out_features=STAGES))
    resnet101 = Variant(backbone_config=ResNetConfig.resnet101(out_features=STAGES))

    @property
    def seen_with(self) -> BackboneConfig:
        """The config of the backbone, to be run as the whole is."""
        config = super().seen_with
        if "freeze_batch_norm" not in config.execution:
            return config
        return dataclasses.replace(config, freeze_batch_norm=self.freeze_batch_norm)

    @property
    def num_channels(self) -> int:
        """Of the pictures."""
        return self.backbone_config.num_channels

    @property
    def projects(self) -> bool:
        """Whether what queries look at is projected from the pixel decoder's features."""
        return self.enforce_input_projection or self.feature_size != self.hidden_dim
