"""The settings of Llama."""

import dataclasses
import math
from typing import Any, ClassVar

from models.config import ModelConfig, ModelError, Variant, nearest
from models.layers.activations import activation
from models.layers.attention import Cache

SCALINGS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Kinds of scaled rotary positions, and the numbers that each wants."""


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary positions reach beyond the length that a model was first trained on.

    Attributes:
        rope_type: `linear` (every angle divided by `factor`), `dynamic` (in texts longer than `max_position_embeddings`
            the wavelengths grow with the text) or `llama3` (long wavelengths divided by `factor`, short ones kept).
        low_freq_factor, high_freq_factor: a wavelength is long where it is more than `original_max_position_embeddings`
            divided by the first, short where it is less than that divided by the second; in between it is mixed.
    """

    rope_type: str
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None

    def __post_init__(self) -> None:
        if self.rope_type not in SCALINGS:
            raise ModelError(f"unknown rope_type {self.rope_type!r}: {nearest(self.rope_type, ['default', *SCALINGS])}")
        for name in SCALINGS[self.rope_type]:
            value = vars(self)[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ModelError(f"rope_scaling {self.rope_type} with {name}={value!r}: expected a number above 0")
        if self.rope_type == "llama3" and not self.low_freq_factor < self.high_freq_factor:
            raise ModelError(
                f"rope_scaling llama3 with low_freq_factor={self.low_freq_factor} and high_freq_factor="
                f"{self.high_freq_factor}: expected the first to be smaller"
            )


LLAMA3_1 = RopeScaling("llama3", 8.0, 1.0, 4.0, 8_192)
LLAMA3_2 = dataclasses.replace(LLAMA3_1, factor=32.0)


GENERATION_3 = Variant(
    vocab_size=128_256,
    max_position_embeddings=8_192,
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
    bos_token_id=128_000,
    eos_token_id=128_001,
)
"""What the models of the third generation have in common; those of 3.1 and 3.2 are for longer texts."""

SMOLLM2 = Variant(
    vocab_size=49_152,
    max_position_embeddings=8_192,
    rms_norm_eps=1e-5,
    rope_theta=100_000.0,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=0,
)
"""What the SmolLM2 models have in common."""


@dataclasses.dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    """Shape of a Llama, with the field names of a published `config.json`.

    Attributes:
        num_key_value_heads: heads of keys and values; `num_attention_heads` where `None`.
        head_dim: features of a head; `hidden_size / num_attention_heads` where `None`.
        attention_bias, mlp_bias: whether the projections have one.
        rope_theta, rope_scaling: as in folders of `transformers` 4; 5 keeps both in `rope_parameters`, which is read too.
        tie_word_embeddings: whether the language model's head is the word embeddings.
        labels: names of the outputs of a classification head (`id2label`).
    """

    model_type: ClassVar[str] = "llama"
    variants: ClassVar[tuple[str, ...]] = (
        *("llama_7b", "llama_13b", "llama_33b", "llama_65b", "llama2_7b", "llama2_13b", "llama2_70b"),
        *("llama3_8b", "llama3_70b", "llama3_1_8b", "llama3_1_70b", "llama3_2_1b", "llama3_2_3b"),
        *("tinyllama", "smollm2_135m", "smollm2_360m", "smollm2_1_7b"),
    )

    vocab_size: int = 32_000
    hidden_size: int = 4_096
    intermediate_size: int = 11_008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2_048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    pad_token_id: int | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        for name in ("num_key_value_heads", "head_dim"):
            if vars(self)[name] is not None:
                self._check(name, vars(self)[name], 1)
        if self.head_dim is None:
            self.check_divides("hidden_size", "num_attention_heads")
        if self.num_attention_heads % self.key_value_heads:
            raise ModelError(
                f"num_attention_heads={self.num_attention_heads} do not divide into groups for"
                f" num_key_value_heads={self.num_key_value_heads}"
            )
        if self.head_size % 2:
            raise ModelError(f"heads of {self.head_size} features: rotary positions want an even number")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "LlamaConfig":
        """From a published `config.json` of `transformers` 4 or 5."""
        rope = published.get("rope_parameters") or published.get("rope_scaling") or {}
        if not isinstance(rope, dict):
            raise ModelError(f"rope_scaling={rope!r}: expected an object")
        if rope.get("partial_rotary_factor", published.get("partial_rotary_factor")) not in (None, 1, 1.0):
            raise ModelError("partial_rotary_factor is set: it is not implemented for Llama")
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        numbers = {name: rope[name] for name in SCALINGS.get(rope_type, ()) if name in rope}
        numbers |= {name: float(x) for name, x in numbers.items() if name.endswith("factor") and type(x) is int}
        if rope_type == "llama3":
            numbers.setdefault("original_max_position_embeddings", published.get("max_position_embeddings"))
        theta = rope.get("rope_theta", published.get("rope_theta", cls.rope_theta))
        eos = published.get("eos_token_id")
        known = dict(
            rope_theta=float(theta),
            rope_scaling=None if rope_type == "default" else RopeScaling(rope_type, **numbers),
            **({"eos_token_id": tuple(eos)} if isinstance(eos, list) else {}),
        )
        return super().from_json(published, **{**known, **changes})

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`, with the rotary settings as `transformers` 4 writes and 5 reads them."""
        published = super().to_json()
        if self.rope_scaling is not None:
            names = ("rope_type", *SCALINGS[self.rope_scaling.rope_type])
            published["rope_scaling"] = {name: vars(self.rope_scaling)[name] for name in names}
        return published

    llama_7b = Variant()
    llama_13b = Variant(hidden_size=5_120, intermediate_size=13_824, num_hidden_layers=40, num_attention_heads=40)
    llama_33b = Variant(hidden_size=6_656, intermediate_size=17_920, num_hidden_layers=60, num_attention_heads=52)
    llama_65b = Variant(
        hidden_size=8_192, intermediate_size=22_016, num_hidden_layers=80, num_attention_heads=64, rms_norm_eps=1e-5
    )
    llama2_7b = Variant(max_position_embeddings=4_096, rms_norm_eps=1e-5)
    llama2_13b = Variant(llama_13b, max_position_embeddings=4_096, rms_norm_eps=1e-5)
    llama2_70b = Variant(llama_65b, max_position_embeddings=4_096, intermediate_size=28_672, num_key_value_heads=8)
    llama3_8b = Variant(GENERATION_3, intermediate_size=14_336, num_key_value_heads=8)
    llama3_70b = Variant(llama2_70b, **GENERATION_3.fields)
    llama3_1_8b = Variant(llama3_8b, max_position_embeddings=131_072, rope_scaling=LLAMA3_1)
    llama3_1_70b = Variant(llama3_70b, max_position_embeddings=131_072, rope_scaling=LLAMA3_1)
    llama3_2_1b = Variant(
        GENERATION_3,
        **dict(hidden_size=2_048, intermediate_size=8_192, num_hidden_layers=16, num_key_value_heads=8, head_dim=64),
        **dict(max_position_embeddings=131_072, rope_scaling=LLAMA3_2, tie_word_embeddings=True),
    )
    llama3_2_3b = Variant(llama3_2_1b, hidden_size=3_072, num_hidden_layers=28, num_attention_heads=24, head_dim=128)
    tinyllama = Variant(
        **dict(hidden_size=2_048, intermediate_size=5_632, num_hidden_layers=22, num_key_value_heads=4),
        rms_norm_eps=1e-5,
    )
    smollm2_135m = Variant(
        SMOLLM2,
        **dict(hidden_size=576, intermediate_size=1_536, num_hidden_layers=30, num_attention_heads=9),
        **dict(num_key_value_heads=3, initializer_range=1 / 24),
    )
    smollm2_360m = Variant(
        SMOLLM2,
        **dict(hidden_size=960, intermediate_size=2_560, num_hidden_layers=32, num_attention_heads=15),
        num_key_value_heads=5,
    )
    smollm2_1_7b = Variant(
        SMOLLM2, hidden_size=2_048, intermediate_size=8_192, num_hidden_layers=24, rope_theta=130_000.0
    )

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Features of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def longest_input(self) -> int:
        """Tokens that the positions are made for; longer texts have some too, of angles never seen in training."""
        stretched = self.rope_scaling is not None and self.rope_scaling.rope_type in ("linear", "dynamic")
        return round(self.max_position_embeddings * (self.rope_scaling.factor if stretched else 1))

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` texts."""
        return Cache.empty(self, self.num_hidden_layers, batch, self.key_value_heads, room, self.head_size)
