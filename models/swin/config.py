"""The config of Swin."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from models.backbone import Backbone, BackboneConfig
from models.config import ModelError, Variant
from models.layers.activations import activation
from models.layers.convolution import Pair, pair


@dataclasses.dataclass(frozen=True)
class SwinConfig(BackboneConfig):
    """Shape of a Swin, with the field names of a published `config.json`. Tuples have one entry per stage.

    Attributes:
        image_size: in pixels, one number for both or (height, width). Without absolute positions, images of any size are taken.
        embed_dim: features of the first stage; they double from stage to stage.
        window_size: height and width of a window, in places.
        mlp_ratio: width of an MLP, in multiples of the features.
        use_absolute_embeddings: whether learned positions are added to the patches.
        drop_path_rate: stochastic depth of both branches of the last block; it grows linearly from 0 at the first block.
            (`transformers` skips the first branch alone.)
        labels: names of the outputs of a classification head (`id2label`).
    """

    model_type: ClassVar[str] = "swin"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(dict(num_attention_heads="num_heads"))
    variants: ClassVar[tuple[str, ...]] = ("tiny", "small", "base", "base_384", "large", "large_384")

    image_size: int | Pair = 224
    patch_size: int | Pair = 4
    num_channels: int = 3
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.1
    hidden_act: str = "gelu"
    use_absolute_embeddings: bool = False
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    encoder_stride: int = 32
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1_000))

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        if not 1 <= len(self.depths) == len(self.num_heads):
            raise ModelError(f"depths={self.depths} and num_heads={self.num_heads}: expected as many of each")
        for stage, heads in enumerate(self.num_heads):
            if self.widths[stage] % heads:
                raise ModelError(f"num_heads={self.num_heads}: {heads} does not divide {self.widths[stage]} features")

    def _check(self, name: str, value: Any, default: Any) -> None:
        both = name in ("image_size", "patch_size") and isinstance(value, tuple) and len(value) == 2
        for one in value if both else (value,):
            super()._check(name, one, default)

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`; `transformers` takes no whole number for the ratio."""
        return {**super().to_json(), "mlp_ratio": float(self.mlp_ratio)}

    tiny = Variant()
    small = Variant(depths=(2, 2, 18, 2))
    base = Variant(small, embed_dim=128, num_heads=(4, 8, 16, 32))
    base_384 = Variant(base, image_size=384, window_size=12)
    large = Variant(small, embed_dim=192, num_heads=(6, 12, 24, 48))
    large_384 = Variant(large, image_size=384, window_size=12)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each stage."""
        return tuple(self.embed_dim << stage for stage in range(len(self.depths)))

    @property
    def channels_by_stage(self) -> tuple[int, ...]:
        return (self.embed_dim, *self.widths)

    @property
    def strides_by_stage(self) -> tuple[int, ...]:
        first = max(pair(self.patch_size))
        return (first, *(first << stage for stage in range(len(self.depths))))

    def backbone(self, **attributes: Any) -> Backbone:
        from models.swin.model import SwinBackbone  # which has this config

        return SwinBackbone(self, **attributes)

    @property
    def grid(self) -> Pair:
        """Rows and columns of the patches of an image of `image_size`."""
        (height, width), (high, wide) = pair(self.image_size), pair(self.patch_size)
        return height // high, width // wide
