"""Llama: a decoder with RMS norms, rotary positions, gated feed-forward layers and grouped keys and values, and its heads.

Touvron et al.: "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv 2302.13971; "Llama 2", 2023,
arXiv 2307.09288; Dubey et al.: "The Llama 3 Herd of Models", 2024, arXiv 2407.21783. TinyLlama (Zhang et al., 2024,
arXiv 2401.02385) and SmolLM2 (Ben Allal et al., 2025, arXiv 2502.02737) are shapes of it.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.config import ModelConfig, ModelError, nearest
from models.kernels.linear import matmul
from models.layers.activations import activation, gated
from models.layers.attention import Attention, Cache, attention_pattern
from models.layers.dropout import Keys, fold_in
from models.layers.embedding import embedding, last_token
from models.layers.linear import by_example, dense
from models.layers.norm import rms_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]

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
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ModelError(
                f"hidden_size={self.hidden_size} does not divide into num_attention_heads={self.num_attention_heads}"
            )
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
        kind = rope.get("rope_type", rope.get("type", "default"))
        numbers = {name: rope[name] for name in SCALINGS.get(kind, ()) if name in rope}
        numbers |= {name: float(x) for name, x in numbers.items() if name.endswith("factor") and type(x) is int}
        if kind == "llama3":
            numbers.setdefault("original_max_position_embeddings", published.get("max_position_embeddings"))
        theta = rope.get("rope_theta", published.get("rope_theta", cls.rope_theta))
        eos = published.get("eos_token_id")
        known = dict(
            rope_theta=float(theta),
            rope_scaling=None if kind == "default" else RopeScaling(kind, **numbers),
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

    @classmethod
    def llama_7b(cls, **changes) -> "LlamaConfig":
        return cls(**changes)

    @classmethod
    def llama_13b(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=5_120, intermediate_size=13_824, num_hidden_layers=40, num_attention_heads=40)
        return cls(**{**shape, **changes})

    @classmethod
    def llama_33b(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=6_656, intermediate_size=17_920, num_hidden_layers=60, num_attention_heads=52)
        return cls(**{**shape, **changes})

    @classmethod
    def llama_65b(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=8_192, intermediate_size=22_016, num_hidden_layers=80, num_attention_heads=64)
        return cls(**{**shape, "rms_norm_eps": 1e-5, **changes})

    @classmethod
    def llama2_7b(cls, **changes) -> "LlamaConfig":
        return cls.llama_7b(**{**dict(max_position_embeddings=4_096, rms_norm_eps=1e-5), **changes})

    @classmethod
    def llama2_13b(cls, **changes) -> "LlamaConfig":
        return cls.llama_13b(**{**dict(max_position_embeddings=4_096, rms_norm_eps=1e-5), **changes})

    @classmethod
    def llama2_70b(cls, **changes) -> "LlamaConfig":
        grouped = dict(max_position_embeddings=4_096, intermediate_size=28_672, num_key_value_heads=8)
        return cls.llama_65b(**{**grouped, **changes})

    @classmethod
    def llama3_8b(cls, **changes) -> "LlamaConfig":
        grouped = dict(intermediate_size=14_336, num_key_value_heads=8)
        return cls.llama_7b(**{**grouped, **_llama3(8_192), **changes})

    @classmethod
    def llama3_70b(cls, **changes) -> "LlamaConfig":
        return cls.llama2_70b(**{**_llama3(8_192), **changes})

    @classmethod
    def llama3_1_8b(cls, **changes) -> "LlamaConfig":
        return cls.llama3_8b(**{**dict(max_position_embeddings=131_072, rope_scaling=LLAMA3_1), **changes})

    @classmethod
    def llama3_1_70b(cls, **changes) -> "LlamaConfig":
        return cls.llama3_70b(**{**dict(max_position_embeddings=131_072, rope_scaling=LLAMA3_1), **changes})

    @classmethod
    def llama3_2_1b(cls, **changes) -> "LlamaConfig":
        shape = dict(
            hidden_size=2_048, intermediate_size=8_192, num_hidden_layers=16, num_key_value_heads=8, head_dim=64
        )
        return cls(**{**shape, **_llama3(131_072, LLAMA3_2), "tie_word_embeddings": True, **changes})

    @classmethod
    def llama3_2_3b(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=3_072, num_hidden_layers=28, num_attention_heads=24, head_dim=128)
        return cls.llama3_2_1b(**{**shape, **changes})

    @classmethod
    def tinyllama(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=2_048, intermediate_size=5_632, num_hidden_layers=22, num_key_value_heads=4)
        return cls(**{**shape, "rms_norm_eps": 1e-5, **changes})

    @classmethod
    def smollm2_135m(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=576, intermediate_size=1_536, num_hidden_layers=30, num_attention_heads=9)
        grouped = dict(num_key_value_heads=3, initializer_range=1 / 24)
        return cls(**{**shape, **grouped, **_smollm2(100_000.0), **changes})

    @classmethod
    def smollm2_360m(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=960, intermediate_size=2_560, num_hidden_layers=32, num_attention_heads=15)
        return cls(**{**shape, "num_key_value_heads": 5, **_smollm2(100_000.0), **changes})

    @classmethod
    def smollm2_1_7b(cls, **changes) -> "LlamaConfig":
        shape = dict(hidden_size=2_048, intermediate_size=8_192, num_hidden_layers=24)
        return cls(**{**shape, **_smollm2(130_000.0), **changes})

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


def _llama3(length: int, scaling: RopeScaling | None = None) -> dict[str, Any]:
    """What the models of the third generation have in common."""
    return dict(
        vocab_size=128_256,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=scaling,
        bos_token_id=128_000,
        eos_token_id=128_001,
    )


def _smollm2(theta: float) -> dict[str, Any]:
    """What the SmolLM2 models have in common."""
    return dict(
        vocab_size=49_152,
        max_position_embeddings=8_192,
        rms_norm_eps=1e-5,
        rope_theta=theta,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )


def frequencies(config: LlamaConfig, longest: Int[Array, ""]) -> Float[Array, " pairs"]:
    """Angle by which each pair of features turns from one position to the next.

    θ^(-2i/d) for the pairs i of d features (Su et al., 2021, arXiv 2104.09864, section 3.2.2), scaled as the config says:
    `linear` after Chen et al. ("Extending Context Window … via Positional Interpolation", 2023, arXiv 2306.15595),
    `dynamic` after Peng et al. ("YaRN", 2023, arXiv 2309.00071, sections 3.1 and 3.3), `llama3` after Dubey et al., 2024.

    Args:
        longest: positions in the longest text of the batch; `dynamic` alone depends on it.
    """
    dim, scaling = config.head_size, config.rope_scaling
    theta = jnp.float32(config.rope_theta)
    kind = "default" if scaling is None else scaling.rope_type
    if kind == "dynamic":
        stretch = jnp.maximum(longest, config.max_position_embeddings) / config.max_position_embeddings
        theta *= (scaling.factor * stretch - (scaling.factor - 1)) ** (dim / (dim - 2))
    turned = 1.0 / theta ** (jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    if kind == "linear":
        return turned / scaling.factor
    if kind == "llama3":
        lengths = (
            scaling.original_max_position_embeddings * turned / (2 * jnp.pi)
        )  # how often it turns in the old length
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = jnp.clip((lengths - low) / (high - low), 0.0, 1.0)
        return turned * (kept + (1 - kept) / scaling.factor)
    return turned


def rotary(config: LlamaConfig, position_ids: Int[Array, "#batch length"]) -> tuple[Array, Array]:
    """Cosines and sines for `rotate`, each float32 (batch or 1, 1, length, head_dim)."""
    turned = frequencies(config, position_ids.max() + 1)
    angles = position_ids[:, None, :, None].astype(jnp.float32) * turned[None, None, None]
    angles = jnp.concatenate([angles, angles], axis=-1)
    # A loop, for what comes out of one XLA does not compute anew for every head of every example.
    cos, sin = jax.lax.map(lambda odd: jnp.where(odd, jnp.sin(angles), jnp.cos(angles)), jnp.array([False, True]))
    return cos, sin


class LlamaLayer(nn.Module):
    """One layer: x + attention(norm(x)), then x + down(act(gate(norm(x))) · up(norm(x)))."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, hidden: Hidden, own, shared):
        config = self.config
        index, cache = own
        mask, cached, turns, dropout_keys = shared
        normal = nn.initializers.normal(config.initializer_range)
        attended, probabilities, cache = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_dropout,
            head_dim=config.head_size,
            num_key_value_heads=config.key_value_heads,
            bias=config.attention_bias,
            inits=FrozenDict(query=normal, key=normal, value=normal, out=normal),
            name="attention",
        )(
            rms_norm(config, config.rms_norm_eps, "attention_norm")(hidden),
            mask,
            fold_in(dropout_keys, index),
            rotary=turns,
            cache=cache,
            cached=cached,
        )
        hidden += attended
        inner = rms_norm(config, config.rms_norm_eps, "mlp_norm")(hidden)
        gate, up = (
            dense(config, config.intermediate_size, name, ("embed", "mlp"), bias=config.mlp_bias, kernel_init=normal)
            for name in ("gate", "up")
        )
        inner = gated(config.hidden_act, gate(inner), up(inner))
        hidden += dense(config, config.hidden_size, "down", ("mlp", "embed"), bias=config.mlp_bias, kernel_init=normal)(
            inner
        )
        return hidden, (hidden, probabilities, None if cached is None else cache)


class LlamaModel(Model):
    """Embeddings and decoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `past_key_values`, the new cache, where one was given;
    `hidden_states` (layers + 1, batch, length, hidden), the embeddings first and the last one normalised, and
    `attentions` (layers, batch, heads, length, keys) where asked for.
    """

    causal: ClassVar[bool] = True

    config: LlamaConfig

    def setup(self) -> None:
        config = self.config
        normal = nn.initializers.normal(config.initializer_range)
        self.word_embeddings = embedding(
            config,
            config.vocab_size,
            config.hidden_size,
            None,
            stddev=config.initializer_range,
            axis="vocab",
            table_init=normal,
        )
        self.layers = stack(LlamaLayer, config, config.num_hidden_layers, None)
        self.norm = rms_norm(config, config.rms_norm_eps, None)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """`segment_ids`, equal within a document, keep packed documents apart; `prefix_mask` marks a prefix that is read in
        both directions. With `past_key_values` the tokens come behind those of the cache, `attention_mask` being theirs.
        """
        config = self.config
        length = input_ids.shape[1]
        cached, layer_caches = None, None
        if past_key_values is not None:
            cached, layer_caches = past_key_values.length, (past_key_values.keys, past_key_values.values)
            past_key_values = past_key_values.reading(attention_mask, length)
            attention_mask = past_key_values.mask
        first = 0 if cached is None else cached
        mask = attention_pattern(
            length, attention_mask, causal=True, segment_ids=segment_ids, prefix_mask=prefix_mask, first=first
        )
        turns = rotary(config, jnp.arange(length)[None] + first if position_ids is None else position_ids)
        embedded = by_example(self.word_embeddings(input_ids).astype(config.compute_dtype))
        own = jnp.arange(config.num_hidden_layers), layer_caches
        hidden, (states, attentions, caches) = self.layers(embedded, own, (mask, cached, turns, dropout_keys))
        hidden = self.norm(hidden)
        if past_key_values is not None:
            past_key_values = past_key_values.replace(keys=caches[0], values=caches[1])
        return ModelOutput(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=jnp.concatenate([embedded[None], states[:-1], hidden[None]])
            if output_hidden_states
            else None,
            attentions=attentions if output_attentions else None,
        )


class LlamaHead(Model):
    """Base of the models with a head, which differ in `head`."""

    causal: ClassVar[bool] = True

    config: LlamaConfig

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        decoder = LlamaModel(self.config, name="model")
        decoded = decoder(
            input_ids,
            attention_mask,
            position_ids,
            segment_ids,
            prefix_mask,
            past_key_values,
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        return ModelOutput(logits=self.head(decoder, decoded.last_hidden_state, input_ids, attention_mask), **decoded)

    @abc.abstractmethod
    def head(self, decoder, hidden, input_ids, attention_mask) -> dict[str, Array]:
        """The outputs beside those of the model below."""

    def project(self, name: str, outputs: int, axis: str, hidden: Float[Array, "*shape hidden"]) -> Array:
        """A linear layer without bias."""
        normal = nn.initializers.normal(self.config.initializer_range)
        return dense(self.config, outputs, name, ("embed", axis), bias=False, kernel_init=normal)(hidden)


class LlamaForCausalLM(LlamaHead):
    """Output: `logits` (batch, length, vocab) of the token after each place."""

    generates: ClassVar[bool] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        if self.config.tie_word_embeddings:
            return matmul(hidden, decoder.word_embeddings.embedding.T)
        return self.project("lm_head", self.config.vocab_size, "vocab", hidden)


class LlamaForSequenceClassification(LlamaHead):
    """Output: `logits` (batch, labels), read at the last token that is not padding, by `pad_token_id` and `attention_mask`."""

    labelled: ClassVar[bool | None] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        place = last_token(input_ids, self.config.pad_token_id, attention_mask)
        last = jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]
        return self.project("score", len(self.config.labels), "head_out", last)
