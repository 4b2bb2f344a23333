"""The config of Mask2Former."""

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
"""Strides in pixels of the backbone's feature maps."""
LEVELS = 3
"""Feature maps that the pixel decoder and the queries attend to: all but the first."""
POINTS = 4
"""Points that a head of the pixel decoder samples in each level."""
GROUPS = 32
"""Groups of the group norms."""
SWIN = dict(drop_path_rate=0.3, out_features=STAGES)


def numbered(count: int) -> tuple[str, ...]:
    """Placeholder names of `count` classes."""
    return tuple(f"LABEL_{number}" for number in range(count))


@dataclasses.dataclass(frozen=True)
class Mask2FormerConfig(WithBackbone):
    """Shape of a Mask2Former, with the field names of a published `config.json`.

    Weights of costs and losses (`class_weight`, `train_num_points`, …) are settings of the objective here. The outputs of every
    decoder layer are always returned, whatever `use_auxiliary_loss` says.

    Attributes:
        backbone_config: config of a Swin or a ResNet that returns all four stages.
        feature_size: features of the pixel decoder, a multiple of 32 for its group norms.
        mask_feature_size: features of the map whose dot products with mask embeddings are the masks.
        hidden_dim: features of the queries.
        encoder_feedforward_dim, encoder_layers: width of the MLPs and number of the layers of the pixel decoder.
        decoder_layers: number of predictions: one before the first layer and one behind each, so one more than there are layers.
        dropout: rate on attention probabilities, in MLPs and on the output of each sub-layer. `transformers` also skips whole
            layers at this rate.
        num_queries: most segments that can be predicted for an image.
        no_object_weight: weight in the class loss of a query without an object; a checkpoint holds it as a parameter, too.
        labels: names of the classes (`id2label`); the logits have one more at the end, for no object.
        freeze_batch_norm: see `ResNetConfig`. True, as the published models were trained. (`transformers` updates the
            statistics in training mode.) A setting of training alone, which no published file has.
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
    def backbone_to_run(self) -> BackboneConfig:
        """The backbone's config with this config's execution settings."""
        config = super().backbone_to_run
        if "freeze_batch_norm" not in config.execution:
            return config
        return dataclasses.replace(config, freeze_batch_norm=self.freeze_batch_norm)

    @property
    def num_channels(self) -> int:
        """Channels of the images."""
        return self.backbone_config.num_channels

    @property
    def projects(self) -> bool:
        """Whether the pixel decoder's maps are projected to the width of the queries."""
        return self.enforce_input_projection or self.feature_size != self.hidden_dim
