"""The settings of T5."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn

from models.config import ModelConfig, ModelError, Variant, alias
from models.layers.activations import activation
from models.layers.attention import Cache
from models.layers.linear import Initializer


@dataclasses.dataclass(frozen=True)
class T5Config(ModelConfig):
    """Shape of a T5, with the field names of a published `config.json`.

    Attributes:
        d_kv: features of a head, whatever `d_model` and `num_heads` are.
        num_layers: of the encoder.
        num_decoder_layers: of the decoder; as many as the encoder has where `None`.
        relative_attention_num_buckets: how many distances between tokens are distinguished, for each head and stack.
        relative_attention_max_distance: distances from here on are all one.
        feed_forward_proj: activation of the feed-forward layers, `relu`; behind `gated-` it multiplies a second projection
            (`gated-gelu`, whose GELU is the tanh approximation).
        initializer_factor: all initial weights are multiplied by it.
        tie_word_embeddings: whether the scores of tokens come from the word embeddings; version 1.1 has another table.
        scale_decoder_outputs: whether the decoder's output is multiplied by d_model^-0.5 before; not in version 1.1.
    """

    model_type: ClassVar[str] = "t5"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="d_model", num_attention_heads="num_heads", num_hidden_layers="num_layers", head_dim="d_kv")
    )
    variants: ClassVar[tuple[str, ...]] = (
        *("small", "base", "large", "t5_3b", "t5_11b"),
        *("v1_1_small", "v1_1_base", "v1_1_large", "v1_1_xl", "v1_1_xxl"),
    )

    vocab_size: int = 32_128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2_048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    feed_forward_proj: str = "relu"
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 1
    decoder_start_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4:
            raise ModelError(f"relative_attention_num_buckets={buckets}: expected at least 4")
        if distance <= buckets // 2:
            raise ModelError(
                f"relative_attention_max_distance={distance}: expected more than {buckets // 2}, which"
                f" relative_attention_num_buckets={buckets} distinguish one by one"
            )
        if self.num_decoder_layers is not None:
            self._check("num_decoder_layers", self.num_decoder_layers, 1)

    @classmethod
    def from_json(cls, published: dict, **changes) -> "T5Config":
        """From a published `config.json`; decoders alone are refused. Where the file says nothing of them, a text to be
        written begins with padding, and the decoder's output is scaled if the embeddings are tied. `dense_act_fn` and
        `is_gated_act` go before what `feed_forward_proj` says."""
        if published.get("is_decoder"):
            raise ModelError("is_decoder is set: only encoders, and encoders with a decoder, are implemented for T5")
        implied = {
            "decoder_start_token_id": published.get("pad_token_id", cls.pad_token_id),
            "scale_decoder_outputs": published.get("tie_word_embeddings", True),
        }
        config = super().from_json({**implied, **published}, **changes)
        if "feed_forward_proj" in changes:
            return config
        derived = {"dense_act_fn": config.activation, "is_gated_act": config.gated}
        meant = {name: value if published.get(name) is None else published[name] for name, value in derived.items()}
        if meant == derived:
            return config
        name = meant["dense_act_fn"]
        if meant["is_gated_act"]:
            name = "gated-" + {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name)
        return dataclasses.replace(config, feed_forward_proj=name)

    def to_json(self) -> dict:
        """As a published `config.json`: the words that `transformers` derives from `feed_forward_proj` among them."""
        return {
            **super().to_json(),
            "is_encoder_decoder": True,
            "is_gated_act": self.gated,
            "dense_act_fn": self.activation,
        }

    small = Variant()
    base = Variant(d_model=768, d_ff=3_072, num_layers=12, num_heads=12)
    large = Variant(d_model=1_024, d_ff=4_096, num_layers=24, num_heads=16)
    t5_3b = Variant(d_model=1_024, d_ff=16_384, d_kv=128, num_layers=24, num_heads=32)
    t5_11b = Variant(d_model=1_024, d_ff=65_536, d_kv=128, num_layers=24, num_heads=128)

    _v1_1 = Variant(feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)
    v1_1_small = Variant(_v1_1, d_model=512, d_ff=1_024, num_layers=8, num_heads=6)
    v1_1_base = Variant(_v1_1, d_model=768, d_ff=2_048, num_layers=12, num_heads=12)
    v1_1_large = Variant(_v1_1, d_model=1_024, d_ff=2_816, num_layers=24, num_heads=16)
    v1_1_xl = Variant(_v1_1, d_model=2_048, d_ff=5_120, num_layers=24, num_heads=32)
    v1_1_xxl = Variant(_v1_1, d_model=4_096, d_ff=10_240, num_layers=24, num_heads=64)

    hidden_size = alias("d_model")
    encoder_layers = alias("num_layers")

    @property
    def decoder_layers(self) -> int:
        return self.num_layers if self.num_decoder_layers is None else self.num_decoder_layers

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers multiply two projections."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def activation(self) -> str:
        """The activation of the feed-forward layers; of `gated-gelu` the GELU that version 1.1 was trained with."""
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else self.feed_forward_proj.removeprefix("gated-")

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` texts to be written; no encoder was read yet."""
        return Cache.empty(self, self.decoder_layers, batch, self.num_heads, room, self.d_kv)

    def initial(self, fan: int) -> Initializer:
        """N(0, 1 / fan), times the factor: that of embeddings (1), and of what sums `fan` terms."""
        return nn.initializers.normal(self.initializer_factor * fan**-0.5)
