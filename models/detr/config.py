"""The config of DETR."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import flax.linen as nn

from models.backbone import TIMM, BackboneConfig, WithBackbone
from models.config import ModelError, Variant
from models.encoder_decoder.config import EncoderDecoderConfig
from models.layers.linear import Initializer
from models.resnet import ResNetConfig

STAGES = ("stage1", "stage2", "stage3", "stage4")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNET101 = ResNetConfig.resnet101(out_features=STAGES)
FROM_TIMM = MappingProxyType({"model_type": TIMM, "backbone": "resnet50", "out_indices": (1, 2, 3, 4)})
"""The backbone of a `config.json` that names none."""


def numbered(count: int) -> tuple[str, ...]:
    """Placeholder names of `count` classes. COCO's category ids go up to 90 for things and 249 for stuff."""
    return tuple(f"LABEL_{number}" for number in range(count))


@dataclasses.dataclass(frozen=True)
class DetrConfig(WithBackbone, EncoderDecoderConfig):
    """Shape of a DETR, with the field names of a published `config.json`.

    Weights of costs and losses (`class_cost`, `eos_coefficient`, …) are settings of the objective here. The outputs of every
    decoder layer are always returned, whatever `auxiliary_loss` says: with it `transformers` feeds each layer the normalised
    output of the one before. That is not the network of the paper, and not the one that the published weights were trained in.

    Attributes:
        backbone_config: config of a ResNet. The encoder reads its last feature map.
        num_queries: most objects that can be detected in an image.
        dropout: rate on the output of each sub-layer.
        attention_dropout, activation_dropout: rates on attention probabilities and within feed-forward layers. The paper has
            0.1 for both; published `config.json`s say 0.
        init_std, init_xavier_std: not used. Kernels begin Xavier-uniform, as in the paper's released code.
        position_embedding_type: `sine`, the only one here.
        dilation: keep the resolution in the last stage of the backbone ("DC5").
        labels: names of the classes (`id2label`); the logits have one more at the end, for no object.
        freeze_batch_norm: the backbone's batch norms use their running statistics in training, too, and these, scales and
            biases stay as they are. For a pretrained backbone; a setting of training alone.
    """

    model_type: ClassVar[str] = "detr"
    variants: ClassVar[tuple[str, ...]] = (
        *("detr_resnet50", "detr_resnet101", "detr_resnet50_dc5", "detr_resnet101_dc5"),
        *("detr_resnet50_panoptic", "detr_resnet101_panoptic", "detr_resnet50_dc5_panoptic"),
    )
    default_backbone: ClassVar[Mapping[str, Any]] = FROM_TIMM
    execution: ClassVar[tuple[str, ...]] = (*WithBackbone.execution, "freeze_batch_norm")

    backbone_config: BackboneConfig = ResNetConfig(out_features=STAGES)
    num_queries: int = 100
    encoder_layers: int = 6
    encoder_ffn_dim: int = 2_048
    encoder_attention_heads: int = 8
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2_048
    decoder_attention_heads: int = 8
    activation_function: str = "relu"
    d_model: int = 256
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    init_xavier_std: float = 1.0
    position_embedding_type: str = "sine"
    dilation: bool = False
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    freeze_batch_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % 4:
            raise ModelError(f"d_model={self.d_model}: sines and cosines of rows and columns want a multiple of 4")
        if self.position_embedding_type != "sine":
            raise ModelError(f"position_embedding_type={self.position_embedding_type!r}: only sine is implemented")
        if self.dilation and not isinstance(self.backbone_config, ResNetConfig):
            raise ModelError(f"dilation is for ResNets, and backbone_config is a {self.backbone_config.model_type}")

    detr_resnet50 = Variant(labels=numbered(91))
    detr_resnet101 = Variant(detr_resnet50, backbone_config=RESNET101)
    detr_resnet50_dc5 = Variant(detr_resnet50, dilation=True)
    detr_resnet101_dc5 = Variant(detr_resnet101, dilation=True)
    detr_resnet50_panoptic = Variant(labels=numbered(250))
    detr_resnet101_panoptic = Variant(detr_resnet50_panoptic, backbone_config=RESNET101)
    detr_resnet50_dc5_panoptic = Variant(detr_resnet50_panoptic, dilation=True)

    @property
    def backbone_to_run(self) -> ResNetConfig | BackboneConfig:
        """The backbone's config with this config's execution settings."""
        config, name = super().backbone_to_run, "freeze_batch_norm"
        return dataclasses.replace(config, **({name: self.freeze_batch_norm} if name in config.execution else {}))

    @property
    def num_channels(self) -> int:
        """Channels of the images."""
        return self.backbone_config.num_channels

    @property
    def kernel_init(self) -> Initializer:
        return nn.initializers.xavier_uniform()

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "DetrConfig":
        """From a published `config.json`. It gives the backbone in one of three ways: as the config of a model, as the config of
        a timm model (both `backbone_config`), or as the name of a timm model (`backbone`).

        Raises:
            ModelError: `dilation` is set for a backbone that is not timm's, where `transformers` silently ignores it.
        """
        nested = published.get("backbone_config")
        if nested is None and not published.get("use_timm_backbone", True):
            nested = {"model_type": "resnet", "out_features": ["stage4"]}
        if nested is None:
            nested = {**FROM_TIMM, **(published.get("backbone_kwargs") or {})}
            nested["backbone"] = published.get("backbone") or FROM_TIMM["backbone"]
            nested.setdefault("num_channels", published.get("num_channels", 3))
        if published.get("dilation") and nested.get("model_type") != TIMM:
            raise ModelError(
                "dilation is set and backbone_config is none of timm: transformers leaves it out there; name a backbone of timm,"
                " or unset it"
            )
        return super().from_json({**published, "backbone_config": nested}, **changes)

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`. A dilated backbone is written as the timm model of the same shape, the only form that
        `transformers` can dilate.

        Raises:
            ModelError: it is dilated, and no timm model has its shape.
        """
        fields = super().to_json()
        if not self.dilation:
            return {**fields, "use_timm_backbone": False}
        shape = {"num_channels": self.num_channels, "out_features": self.backbone_config.out_features}
        names = [name for name in RESNETS if ResNetConfig.variant(name, **shape) == self.backbone_config]
        if not names:
            raise ModelError("dilation is set and backbone_config is none of the published ResNets: it cannot be saved")
        stages = self.backbone_config.stage_names
        timm = {
            **{"model_type": TIMM, "backbone": names[0], "num_channels": self.num_channels, "features_only": True},
            **{"use_pretrained_backbone": False, "output_stride": 16},
            "out_indices": [stages.index(name) for name in self.backbone_config.stages_out],
        }
        return {**fields, "backbone_config": timm}
