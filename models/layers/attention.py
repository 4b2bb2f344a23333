"""Attention: where queries may look, the cache of a decoder, and the layer."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig, ModelError
from models.kernels.attention import attend
from models.kernels.masks import AttentionMask
from models.kernels.platform import attention_version
from models.kernels.precision import widened
from models.layers.dropout import Keys
from models.layers.linear import Dense, Initializer, dense, truncated_normal
from models.layers.positions import rotate


def attention_pattern(
    queries: int,
    attended: Int[Array, "batch keys"] | Bool[Array, "batch keys"] | None = None,
    *,
    causal: bool = False,
    segment_ids: Int[Array, "batch keys"] | None = None,
    prefix_mask: Int[Array, "batch keys"] | None = None,
    first: int | Int[Array, ""] = 0,
    by_parts: bool = False,
) -> AttentionMask | Bool[Array, "#batch 1 #queries keys"] | None:
    """Where queries may look, as `Attention` takes it: an array, or `None` where everywhere; or by its parts.

    Args:
        queries: how many there are; the first one's place among the keys is `first`.
        attended: keys that may be looked at at all.
        causal: a query may look at itself and what comes before.
        segment_ids: it may look at keys of its own segment only.
        prefix_mask: keys that those before them may look at, too (a prefix read in both directions).
        by_parts: see `has_kernel`.
    """
    keys = next((x.shape[1] for x in (attended, segment_ids, prefix_mask) if x is not None), queries)
    segments = None if segment_ids is None else (segment_ids, segment_ids)
    mask = AttentionMask(attended, segments, prefix_mask, causal=causal)
    return mask if by_parts else mask.array(queries, keys, first)


def has_kernel(config: ModelConfig, *, cache: Any = None, probabilities: bool = False) -> bool:
    """Whether attention is to be computed by the kernel, which takes masks by their parts, needs no array as large as the scores,
    and gives no `probabilities`; what is looked up in a `cache` the reference computes."""
    return cache is None and not probabilities and attention_version(config.attention) == "kernel"


@flax.struct.dataclass
class Cache:
    """Keys and values of the tokens that a decoder has read, so that it need not read them again.

    Attributes:
        keys, values: (layers, batch, key_value_heads, room, head_dim); or cut into layers, in the loop of generation.
        mask: (batch, room), true where a place is filled and may be looked at.
        length: int32 scalar, places filled in every row.
        memory_keys, memory_values: the same of an encoder's output; `None` in a decoder alone, or before it was read.
        memory_mask: (batch, length of the memory).
    """

    keys: Array | tuple[Array, ...]
    values: Array | tuple[Array, ...]
    mask: Array
    length: Array
    memory_keys: Array | tuple[Array, ...] | None = None
    memory_values: Array | tuple[Array, ...] | None = None
    memory_mask: Array | None = None

    @classmethod
    def empty(cls, config: ModelConfig, layers: int, batch: int, heads: int, room: int, head_dim: int) -> "Cache":
        zeros = jnp.zeros((layers, batch, heads, room, head_dim), config.compute_dtype)
        return cls(zeros, zeros, jnp.zeros((batch, room), bool), jnp.zeros((), jnp.int32))

    def reading(self, attended: Int[Array, "batch new"] | None, new: int) -> "Cache":
        """This cache with room taken for `new` tokens more; `attended` says which of them may be looked at.

        Raises:
            ModelError: there are more of them than the whole cache has room for. (That a cache is full before is not seen:
                its length is an array.)
        """
        if new > self.mask.shape[1]:
            raise ModelError(
                f"{new} tokens at once do not fit a cache with room for {self.mask.shape[1]}: make it larger"
            )
        filled = jnp.ones((self.mask.shape[0], new), bool) if attended is None else attended > 0
        mask = jax.lax.dynamic_update_slice(self.mask, filled, (0, self.length))
        return self.replace(mask=mask, length=self.length + new)


class LayerCache(NamedTuple):
    """One layer's keys and values of what came before, each (batch, key_value_heads, room, head_dim).

    Attributes:
        filled: places in use; the new ones come behind them. `None` of an encoder's output: it is whole, nothing is added.
    """

    keys: Array
    values: Array
    filled: Int[Array, ""] | None

    @classmethod
    def of(cls, arrays: tuple[Array, Array] | None, filled: Int[Array, ""] | None = None) -> "LayerCache | None":
        """The cache of these keys and values, where there are any."""
        return None if arrays is None else cls(*arrays, filled)

    def add(self, key: Array | None, value: Array | None) -> tuple[Array, Array]:
        """All keys and values, with the new ones behind those before them."""
        if self.filled is None:
            return self.keys, self.values
        pairs = ((self.keys, key), (self.values, value))
        begin = (0, 0, self.filled, 0)
        return tuple(jax.lax.dynamic_update_slice(old, new.astype(old.dtype), begin) for old, new in pairs)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv 1706.03762, section 3.2).

    Attributes:
        features: of the output.
        num_heads: heads; `features` must divide by it where `head_dim` is `None`.
        dropout_rate: of the attention probabilities.
        head_dim: of each head; `features / num_heads` where `None`.
        num_key_value_heads: heads of keys and values, each shared by as many heads of queries (grouped-query attention,
            Ainslie et al., 2023, arXiv 2305.13245); `num_heads` where `None`.
        fused: one product for queries, keys and values, with a kernel `(in, 3, out)`.
        bias: whether the projections have one.
        qkv_bias: whether those of queries, keys and values have one; as `bias` says where `None`.
        key_bias: whether that of keys has one, where the others have.
        scale: of the scores; `head_dim ** -0.5` where `None`.
        upcast: scale queries in float32, and keep queries, keys and values in it until they are attended.
        inits: initializers of the kernels that do not begin as N(0, stddev²) cut at ±2 stddev, by name.
        local_start: let the first half of the heads begin with keys equal to queries, so that like attends to like: with
            sinusoids as positions, each token to its neighbours (Trockman & Kolter, "Mimetic Initialization of
            Self-Attention Layers", 2023, arXiv 2305.09828). The other half begins by looking everywhere alike.
    """

    config: ModelConfig
    features: int
    num_heads: int
    dropout_rate: float
    stddev: float = 0.02
    local_start: bool = False
    head_dim: int | None = None
    num_key_value_heads: int | None = None
    fused: bool = False
    bias: bool = True
    qkv_bias: bool | None = None
    key_bias: bool = True
    scale: float | None = None
    upcast: bool = False
    inits: Mapping[str, Initializer] = FrozenDict()

    @property
    def size(self) -> int:
        """Features of a head."""
        return self.head_dim or self.features // self.num_heads

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch length features"] | None,
        mask: AttentionMask | Bool[Array, "rows 1 #length keys"] | None,
        dropout_keys: Keys = None,
        *,
        memory: Float[Array, "batch keys features"] | None = None,
        position_bias: Float[Array, "#batch heads length keys"] | None = None,
        rotary: tuple[Array, Array] | None = None,
        cache: LayerCache | None = None,
        layer_scale: Float[Array, ""] | None = None,
    ) -> tuple[
        Float[Array, "batch length features"] | None,
        Float[Array, "batch heads length keys"] | None,
        tuple[Array, Array],
    ]:
        """Returns the attended and projected vectors, the attention probabilities before dropout (`None` where a kernel made
        none), and the keys and values: with a `cache` the new one. Where `hidden` is `None` the keys and values of the memory
        are all that is made.

        Args:
            mask: true where a query may look, the same for all rows, or for each row of the keys; or its parts, for the kernel.
                A query that may look nowhere looks everywhere alike.
            memory: what keys and values are made from; `hidden` where `None`.
            position_bias: added to the scores.
            rotary: cosines and sines by which queries and keys are turned (`rotate`).
            cache: keys and values of what came before. They may have fewer rows, each for as many rows of `hidden` in turn:
                beams that look at one text.
            layer_scale: multiplies the scores, beside `scale`.
        """
        if hidden is None:
            return None, None, self._keys_and_values(memory)
        query, key, value = self._project(hidden, memory, read=cache is None or cache.filled is not None)
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        if cache is not None:
            key, value = cache.add(key, value)
        if self.upcast:
            query, key, value = (widened(x) for x in (query, key, value))
        if layer_scale is not None:
            query *= layer_scale.astype(query.dtype)
        shared = len(query) // len(key)
        if shared > 1:
            query = rearrange(query, "(batch row) heads length dim -> batch heads (row length) dim", row=shared)
        attended, probabilities = self._attend(
            (query, key, value), mask, position_bias=position_bias, dropout_keys=dropout_keys
        )
        if shared > 1:
            attended = rearrange(attended, "batch (row length) features -> (batch row) length features", row=shared)
            probabilities = rearrange(
                probabilities, "b heads (row length) keys -> (b row) heads length keys", row=shared
            )
        out = self._dense(self.features, "out", ("heads", "embed"))(attended)
        return out, probabilities, (key, value)

    def _attend(self, arrays: tuple[Array, Array, Array], mask, **settings: Any) -> tuple[Array, Array | None]:
        """What queries, keys and values make, and the probabilities, which the kernel does not."""
        settings |= dict(scale=self.size**-0.5 if self.scale is None else self.scale, dropout_rate=self.dropout_rate)
        if not isinstance(mask, AttentionMask):
            return attend(*arrays, mask, **settings)
        from models.kernels.fused_attention import fused_attend, refusal  # not above: importing Pallas takes a second

        refused = refusal(*arrays, settings["position_bias"])
        if refused is None:
            return fused_attend(*arrays, mask, **settings), None
        warnings.warn(f"attention takes the reference, not the kernel, which does not take {refused}", stacklevel=2)
        return attend(*arrays, mask.array(arrays[0].shape[2], arrays[1].shape[2]), **settings)

    def _project(self, hidden, memory, read: bool) -> tuple[Array, Array | None, Array | None]:
        """Queries, and where `read` keys and values, each `(batch, heads, length, dim)`."""
        width = self.num_heads * self.size
        if self.fused:
            all_three = self._dense((3, width), "qkv", ("embed", None, "heads"))(hidden)
            query, key, value = (self._by_heads(part.squeeze(-2)) for part in jnp.split(all_three, 3, axis=-2))
            return query, key, value
        init = self._local_queries if self.local_start else None
        query = self._by_heads(self._dense(width, "query", ("embed", "heads"), init)(hidden))
        if not read:
            return query, None, None
        return query, *self._keys_and_values(hidden if memory is None else memory)

    def _keys_and_values(self, memory: Float[Array, "batch keys features"]) -> tuple[Array, Array]:
        width = (self.num_key_value_heads or self.num_heads) * self.size
        init = self._local_keys if self.local_start else None
        key = self._by_heads(self._dense(width, "key", ("embed", "heads"), init)(memory))
        return key, self._by_heads(self._dense(width, "value", ("embed", "heads"))(memory))

    def _by_heads(self, x: Float[Array, "batch length features"]) -> Float[Array, "batch heads length dim"]:
        return rearrange(x, "batch length (heads dim) -> batch heads length dim", dim=self.size)

    def _dense(self, features, name: str, axes, init: Initializer | None = None) -> Dense:
        init = init or self.inits.get(name)
        bias = self.bias if name == "out" or self.qkv_bias is None else self.qkv_bias
        bias = bias and (name != "key" or self.key_bias)
        return dense(self.config, features, name, axes, bias=bias, stddev=self.stddev, kernel_init=init)

    def _local_queries(self, key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "in out"]:
        """An initializer: so wide in the first half of the heads that the scores of like vectors begin at about 10."""
        head_dim = self.features // self.num_heads
        wide = math.sqrt(10 / (math.sqrt(head_dim) * self.features))
        stddev = jnp.where(jnp.arange(self.features) < self.num_heads // 2 * head_dim, wide, self.stddev)
        return (jax.random.normal(key, shape) * stddev[None]).astype(dtype)

    def _local_keys(self, key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "in out"]:
        """An initializer: the queries in the first half of the heads, what they would be anyway in the others."""
        head_dim = self.features // self.num_heads
        local = jnp.arange(self.features) < self.num_heads // 2 * head_dim
        queries = nn.unbox(self.variables["params"]["query"]["kernel"])
        return jnp.where(local[None], queries, truncated_normal(self.stddev)(key, shape, dtype))


class PlacedAttention(Attention):
    """Attention in which positions are added to what queries and keys are made from, and not to values (Carion et al.,
    "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872, section A.3)."""

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch length features"],
        mask: Bool[Array, "rows 1 #length keys"] | None,
        dropout_keys: Keys = None,
        *,
        query_positions: Float[Array, "#batch length features"],
        key_positions: Float[Array, "#batch keys features"],
        memory: Float[Array, "batch keys features"] | None = None,
    ) -> tuple[Float[Array, "batch length features"], Float[Array, "batch heads length keys"]]:
        """The attended and projected vectors, and the attention probabilities before dropout.

        Args:
            mask: see `Attention`.
            memory: what keys and values are made from; `hidden` where `None`.
        """
        source, width = hidden if memory is None else memory, self.num_heads * self.size
        made = {"query": hidden + query_positions, "key": source + key_positions, "value": source}
        query, key, value = (
            self._by_heads(self._dense(width, name, ("embed", "heads"))(x)) for name, x in made.items()
        )
        rates = dict(dropout_rate=self.dropout_rate, dropout_keys=dropout_keys)
        attended, probabilities = attend(query, key, value, mask, scale=self.size**-0.5, **rates)
        return self._dense(self.features, "out", ("heads", "embed"))(attended), probabilities
