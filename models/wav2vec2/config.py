"""The config of Wav2Vec2."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from models.config import ModelConfig, ModelError, Variant
from models.layers.activations import activation


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Config(ModelConfig):
    """Shape of a Wav2Vec2, with the field names of a published `config.json`.

    Attributes:
        layerdrop: probability of skipping a layer for an example in training.
        feat_extract_norm: `group`: each channel of the first convolution is normalised over time, padding included, and the
            model takes no attention mask; `layer`: a layer norm after every convolution.
        conv_dim, conv_kernel, conv_stride: channels, kernel size and stride of each convolution over the samples.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: kernel size and groups of the positional convolution.
        do_stable_layer_norm: pre-norms and a norm at the end; else post-norms.
        apply_spec_augment: use `mask_time_indices` and `mask_feature_indices`.
        mask_time_prob, mask_feature_prob: if above 0, there is a mask vector. The objective draws the masks.
        codevector_dim: features of a quantised frame, all groups together.
        use_weighted_layer_sum: a classifier reads a learned mean of all layers, not the last one.
        feature_grad_mult: factor of the convolutions' gradient, a setting of pretraining that no published file has.
    """

    model_type: ClassVar[str] = "wav2vec2"
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "feature_grad_mult")
    variants: ClassVar[tuple[str, ...]] = ("base", "large", "large_lv60")

    vocab_size: int = 32
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    feat_quantizer_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    num_codevectors_per_group: int = 320
    num_codevector_groups: int = 2
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    diversity_loss_weight: float = 0.1
    ctc_loss_reduction: str = "sum"
    ctc_zero_infinity: bool = False
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    feature_grad_mult: float = 1.0

    base = Variant()
    large = Variant(
        hidden_size=1_024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4_096,
        codevector_dim=768,
        proj_codevector_dim=768,
    )
    large_lv60 = Variant(large, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        activation(self.feat_extract_activation)
        if self.feat_extract_norm not in ("group", "layer"):
            raise ModelError(f"feat_extract_norm={self.feat_extract_norm!r}: expected group or layer")
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel) > 0:
            raise ModelError(
                f"conv_dim={self.conv_dim}, conv_stride={self.conv_stride} and conv_kernel={self.conv_kernel}: expected one"
                " number each for each convolution"
            )
        whole = {
            "hidden_size": ("num_attention_heads", "num_conv_pos_embedding_groups"),
            "codevector_dim": ("num_codevector_groups",),
        }
        for name, parts in whole.items():
            for part in parts:
                if vars(self)[name] % vars(self)[part]:
                    raise ModelError(f"{name}={vars(self)[name]} does not divide into {part}={vars(self)[part]}")
        for name in ("layerdrop", "hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout"):
            if vars(self)[name] >= 1:
                raise ModelError(f"{name}={vars(self)[name]}: expected a number below 1")

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "Wav2Vec2Config":
        for name, value in (("add_adapter", False), ("adapter_attn_dim", None)):
            if published.get(name, value) != value:
                raise ModelError(f"{name}={published[name]!r}: adapters are not implemented, expected {value}")
        return super().from_json(published, **changes)

    @property
    def masks(self) -> bool:
        """Whether there is a mask vector."""
        return self.mask_time_prob > 0 or self.mask_feature_prob > 0

    def frames(self, samples: Any) -> Any:
        """Number of frames of `samples`, a number or an array."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def samples(self, frames: int) -> int:
        """The fewest samples that make `frames` frames."""
        for kernel, stride in zip(self.conv_kernel[::-1], self.conv_stride[::-1], strict=True):
            frames = (frames - 1) * stride + kernel
        return frames
