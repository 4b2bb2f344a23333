"""Backbones: image models in stages, whose feature maps detectors and segmenters read."""

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from models.config import ModelConfig, ModelError, nearest
from models.model import Model

STEM = "stem"
"""The name of the feature map before the first stage."""

Path = tuple[str, ...]
TYPES = ("resnet", "swin")
"""The `model_type`s that may be backbones."""

TIMM = "timm_backbone"
"""The `model_type` of a timm backbone; the ResNets of `models.resnet` are read, by their timm names."""


@dataclasses.dataclass(frozen=True)
class BackboneConfig(ModelConfig):
    """Base of the configs of models that may be backbones. A subclass writes `channels_by_stage`, `strides_by_stage` and
    `backbone`.

    Attributes:
        out_features: names of the stages whose feature maps a backbone gives (`stem`, `stage1` and so on), in their order; the
            last one where `None`. A `config.json` may count them instead (`out_indices`, the stem being 0).
    """

    attention_kernel: ClassVar[bool] = False

    out_features: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.stage_names
        if self.out_features is not None and tuple(n for n in names if n in self.out_features) != self.out_features:
            raise ModelError(f"out_features={self.out_features}: expected some of {', '.join(names)}, in this order")
        if self.out_features == ():
            raise ModelError(f"out_features is empty: expected some of {', '.join(names)}")

    @property
    def stage_names(self) -> tuple[str, ...]:
        return (STEM, *(f"stage{number}" for number in range(1, len(self.depths) + 1)))

    @property
    def stages_out(self) -> tuple[str, ...]:
        """The names of the stages whose feature maps a backbone gives."""
        return self.out_features or self.stage_names[-1:]

    @property
    def channels_by_stage(self) -> tuple[int, ...]:
        """Channels of the feature maps of all stages, the stem's first."""
        raise NotImplementedError

    @property
    def strides_by_stage(self) -> tuple[int, ...]:
        """Strides in pixels of the feature maps of all stages, the stem's first."""
        raise NotImplementedError

    def backbone(self, **attributes: Any) -> "Backbone":
        """The module of this shape, with attributes such as its `name`."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "BackboneConfig":
        config = super().from_json(published, **changes)
        indices = published.get("out_indices")
        if config.out_features is not None or indices is None:
            return config
        names = config.stage_names
        if not all(isinstance(index, int) and -len(names) <= index < len(names) for index in indices):
            raise ModelError(f"out_indices={indices}: expected numbers of the {len(names)} stages, the stem being 0")
        return dataclasses.replace(config, out_features=tuple(names[index] for index in indices))

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`, which says nothing of `out_features` where they are the last stage."""
        fields = super().to_json()
        if self.out_features is None:
            del fields["out_features"]
        return fields


class Backbone(Model):
    """Base of backbones: `__call__(pixel_values, *, dropout_keys=None, batch_axes=None, output_hidden_states=False)`.

    Outputs: `feature_maps`, a tuple of one (batch, height / stride, width / stride, channels) for each of `config.stages_out`;
    `hidden_states` where asked for, those of all stages.
    """

    config: BackboneConfig

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the feature maps that it returns."""
        return self._of_stages_out(self.config.channels_by_stage)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in pixels of the feature maps that it returns."""
        return self._of_stages_out(self.config.strides_by_stage)

    def _of_stages_out(self, values: tuple[int, ...]) -> tuple[int, ...]:
        by_name = dict(zip(self.config.stage_names, values, strict=True))
        return tuple(by_name[name] for name in self.config.stages_out)


@dataclasses.dataclass(frozen=True)
class WithBackbone(ModelConfig):
    """Base of the configs of models on a backbone.

    Attributes:
        backbone_config: the shape of the backbone. Its execution settings (dtypes, `remat`, …) are those of this config.
    """

    attention_kernel: ClassVar[bool] = False

    backbone_config: BackboneConfig | None = None
    default_backbone: ClassVar[Mapping[str, Any]]
    """What a `config.json` that has no `backbone_config` means."""

    @property
    def backbone_to_run(self) -> BackboneConfig:
        """The backbone's config with this config's execution settings."""
        same = {name: vars(self)[name] for name in ModelConfig.execution}
        return dataclasses.replace(self.backbone_config, **same)

    def on(self, backbone: BackboneConfig) -> "WithBackbone":
        """This config with a backbone of another shape, which returns the feature maps of the same stages."""
        shape = dataclasses.replace(backbone, out_features=self.backbone_config.out_features)
        return dataclasses.replace(self, backbone_config=shape)

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "WithBackbone":
        nested = published.get("backbone_config") or cls.default_backbone
        changes = {"backbone_config": read_backbone_config(nested), **changes}
        return super().from_json({k: v for k, v in published.items() if k != "backbone_config"}, **changes)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "backbone_config": self.backbone_config.to_json()}


def read_backbone_config(published: Mapping[str, Any]) -> BackboneConfig:
    """The config that a `backbone_config` of a `config.json` describes.

    Raises:
        ModelError: its `model_type` is no backbone here.
    """
    model_type = published.get("model_type")
    if model_type == TIMM:
        return timm_backbone_config(published)
    if model_type not in TYPES:
        raise ModelError(f"backbone_config: model_type={model_type!r}: {nearest(str(model_type), list(TYPES))}")
    module = importlib.import_module(f"models.{model_type}")
    (config,) = (
        x
        for x in vars(module).values()
        if isinstance(x, type) and issubclass(x, BackboneConfig) and getattr(x, "model_type", None) == model_type
    )
    return config.from_json(published)


def timm_backbone_config(published: Mapping[str, Any]) -> BackboneConfig:
    """The config of the network that timm builds for a name such as `resnet50`.

    Raises:
        ModelError: it is no ResNet.
    """
    from models.resnet import ResNetConfig  # which is a backbone itself

    name = str(published.get("backbone"))
    if name not in ResNetConfig.variants:
        raise ModelError(f"backbone={name!r} of timm: {nearest(name, list(ResNetConfig.variants))}")
    indices = published.get("out_indices") or [-1]
    features = tuple(ResNetConfig().stage_names[index] for index in indices)
    return ResNetConfig.variant(name, out_features=features, num_channels=published.get("num_channels", 3))


def placed(backbone: Mapping[Path, Any], whole: Iterable[Path]) -> dict[Path, Any]:
    """The variables of a backbone under the paths that they have in a model with that backbone.

    Args:
        backbone: by path, the name of the collection first.
        whole: the paths of all variables of the model.

    Raises:
        ModelError: the model has no backbone of this shape.
    """
    (collection, *rest), whole = min(backbone), set(whole)
    ends = (path for path in whole if path[0] == collection and list(path[-len(rest) :]) == rest)
    for path in ends:
        before = path[1 : len(path) - len(rest)]
        found = {(name, *before, *inner): x for (name, *inner), x in backbone.items()}
        if before and found.keys() <= whole:
            return found
    raise ModelError(f"the model has no backbone with {'/'.join(rest)} in it")
