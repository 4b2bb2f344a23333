"""Attention that never writes scores, as layers call it: the Pallas kernel on whatever mesh there is, and its gradient."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float

from models.kernels import attention
from models.kernels.gradient import with_gradient
from models.kernels.masks import ATTENDED, AttentionMask
from models.kernels.pallas_attention import run
from models.kernels.pallas_blocks import Call
from models.layers.dropout import Keys, key_words

MOST_HEADS = 16
"""Heads of queries in a block, each of which is laid out in the program."""
NAMES = (
    *("query", "key", "value", "position_bias"),
    *("attended_keys", "prefix_mask", "query_segments", "key_segments"),
    "words",
)
"""Of the arrays that follow: queries, keys and values (batch, length, heads · dim), the biases of their scores, the parts of a
mask, and the words of the keys of dropout; some may be missing."""


def fused_attend(
    query: Float[Array, "batch heads length dim"],
    key: Float[Array, "batch key_value_heads keys dim"],
    value: Float[Array, "batch key_value_heads keys dim"],
    mask: AttentionMask,
    *,
    scale: float,
    position_bias: Float[Array, "#batch heads length keys"] | None = None,
    dropout_rate: float = 0.0,
    dropout_keys: Keys = None,
) -> Float[Array, "batch length features"]:
    """What `models.kernels.attention.attend` gives, without the probabilities; it drops the same weights.

    Call it where `refusal` is `None`.
    """
    flat = (rearrange(x, "batch heads length dim -> batch length (heads dim)") for x in (query, key, value))
    own, others = (None, None) if mask.segment_ids is None else mask.segment_ids
    words = None if dropout_keys is None or not dropout_rate else key_words(dropout_keys)
    attended = _attend(
        *flat,
        position_bias,
        mask.attended,
        mask.prefix_mask if mask.causal else None,
        own,
        others,
        words,
        heads=query.shape[1],
        key_value_heads=key.shape[1],
        causal=mask.causal,
        scale=float(scale),
        dropout_rate=0.0 if words is None else dropout_rate,
    )
    return checkpoint_name(attended, ATTENDED)


def refusal(query: Any, key: Any, value: Any, position_bias: Any) -> str | None:
    """Why the kernel cannot compute this, arrays or their shapes; `None` where it can."""
    dim, dtype = query.shape[3], query.dtype
    if dtype not in (jnp.float32, jnp.bfloat16) or {key.dtype, value.dtype} != {dtype}:
        return (
            f"queries, keys and values in {query.dtype}, {key.dtype} and {value.dtype}, not all in float32 or bfloat16"
        )
    if not 32 <= dim <= 128 or dim % 8 or value.shape[3] != dim:
        return f"heads of {dim} and {value.shape[3]} features, not as many in both, 32 to 128 and a multiple of 8"
    call = call_of(query, key, 0 if position_bias is None else len(position_bias))
    if call.heads_together > MOST_HEADS:
        return f"{call.heads_together} heads of queries in a block, more than {MOST_HEADS}"
    if call.vmem() > call.VMEM:
        return f"{call.vmem() / 2**20:.0f} MiB of keys, values, biases and scores in a block, more than {call.VMEM / 2**20:.0f}"
    return None


def call_of(query: Any, key: Any, biases: int) -> Call:
    batch, heads, queries, dim = query.shape
    return Call(batch, queries, key.shape[2], heads, key.shape[1], dim, query.dtype, causal=True, biases=biases)


def _reference(
    *arrays: Array | None, heads: int, key_value_heads: int, causal: bool, scale: float, dropout_rate: float
) -> Float[Array, "batch length features"]:
    query, key, value, bias, attended, prefix_mask, own, others, words = arrays
    query *= jnp.asarray(scale, query.dtype)
    segments = None if own is None else (own, others)
    mask = AttentionMask(attended, segments, prefix_mask, causal=causal).array(query.shape[1], key.shape[1])
    query, key, value = (
        rearrange(x, "batch length (heads dim) -> batch heads length dim", heads=count)
        for x, count in ((query, heads), (key, key_value_heads), (value, key_value_heads))
    )
    keys = None if words is None else jax.random.wrap_key_data(words, impl="threefry2x32")
    return attention._reference(query, key, value, mask, bias, keys, dropout_rate=dropout_rate)


def _forward(*arrays: Array | None, **settings: Any) -> tuple[Array, tuple]:
    given = dict(zip(NAMES, arrays, strict=True))
    return on_mesh(given, **settings)["attended"], arrays


def _backward(residuals: tuple, gradient: Array, **settings: Any) -> tuple[Array | None, ...]:
    found = on_mesh({**dict(zip(NAMES, residuals, strict=True)), "gradient": gradient}, **settings)
    bias = found.get("bias_gradient")
    bias = None if bias is None else bias.astype(residuals[3].dtype)
    return found["query_gradient"], found["key_gradient"], found["value_gradient"], bias, *(None,) * 5


_attend = with_gradient(_reference, _forward, _backward)


def on_mesh(arrays: dict[str, Array | None], *, heads: int, key_value_heads: int, **settings: Any) -> dict[str, Array]:
    """The kernel's results; on a mesh, whose compiler cannot cut a kernel, by examples and heads as its logical axes say."""
    arrays = {name: x for name, x in arrays.items() if x is not None}
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types:
        return locally(arrays, heads=heads, key_value_heads=key_value_heads, **settings)
    size = {None: 1, **mesh.shape}
    by_example, by_head = nn.logical_to_mesh_axes(("batch", "heads"))
    names = by_example if isinstance(by_example, tuple) else (by_example,)
    if len(arrays["query"]) % math.prod(size[name] for name in names):
        by_example = None
    if by_head is not None and (heads % size[by_head] or key_value_heads % size[by_head]):
        by_head = None
    shared = {name for name in arrays if len(arrays[name]) == 1}
    shared |= {"bias_gradient"} if "position_bias" in shared else set()

    def of_chip(arrays: dict[str, Array]) -> dict[str, Array]:
        counts = dict(heads=heads // size[by_head], key_value_heads=key_value_heads // size[by_head])
        found = locally(arrays, by_head=by_head, **counts, **settings)
        added = {name: jax.lax.psum(x, by_example) for name, x in found.items() if name in shared and by_example}
        return {**found, **added}

    results = ("attended",)
    if "gradient" in arrays:
        results = "query_gradient", "key_gradient", "value_gradient"
        results += ("bias_gradient",) if "position_bias" in arrays else ()
    specs = {name: _spec(name, None if name in shared else by_example, by_head) for name in (*arrays, *results)}
    return jax.shard_map(
        of_chip,
        mesh=mesh,
        in_specs=({name: specs[name] for name in arrays},),
        out_specs={name: specs[name] for name in results},
        check_vma=False,
    )(arrays)


def _spec(name: str, by_example: Any, by_head: str | None) -> PartitionSpec:
    """How an array is cut."""
    if name in ("position_bias", "bias_gradient"):
        return PartitionSpec(by_example, by_head)
    if name in ("attended_keys", "prefix_mask", "query_segments", "key_segments", "words"):
        return PartitionSpec(by_example)
    return PartitionSpec(by_example, None, by_head)


def locally(
    arrays: dict[str, Array], *, heads: int, key_value_heads: int, by_head: str | None = None, **settings: Any
) -> dict[str, Array]:
    """The kernel's results on one chip.

    Args:
        by_head: the axis of the mesh that heads are cut along, where they are.
    """
    query, key, bias, words = (arrays.get(name) for name in ("query", "key", "position_bias", "words"))
    parts = [arrays[name] for name in ("attended_keys", "prefix_mask", "key_segments") if name in arrays]
    masks = max((len(part) for part in parts), default=1)
    call = Call(
        *query.shape[:2],
        key.shape[1],
        heads,
        key_value_heads,
        query.shape[2] // heads,
        query.dtype,
        attended="attended_keys" in arrays,
        prefixed="prefix_mask" in arrays,
        segmented="key_segments" in arrays,
        masks=masks,
        biases=0 if bias is None else len(bias),
        **settings,
    )
    first = 0 if by_head is None else jax.lax.axis_index(by_head) * heads
    scalars = jnp.full(1, first, jnp.int32)
    if words is not None:
        scalars = jnp.concatenate([scalars, jax.lax.bitcast_convert_type(words, jnp.int32).reshape(-1)])
    found = run(call, "gradient" in arrays, scalars, laid_out(arrays, parts, call))
    return {name: _cut(x, name, call) for name, x in found.items()}


def laid_out(arrays: dict[str, Array], parts: list[Array], call: Call) -> dict[str, Array]:
    """The arrays as the kernel reads them, filled up to whole blocks."""

    def filled(x: Array, *sizes: int) -> Array:
        """With zeros behind the second axis and those that follow."""
        if x.shape[1:] == sizes:
            return x
        return jnp.pad(x, [(0, 0), *((0, size - have) for size, have in zip(sizes, x.shape[1:], strict=True))])

    by_name = {
        name: filled(x, call.all_queries if name in ("query", "gradient") else call.all_keys, x.shape[2])
        for name, x in arrays.items()
        if name in ("query", "key", "value", "gradient")
    }
    if call.biases:
        bias = arrays["position_bias"].astype(jnp.float32)
        by_name["position_bias"] = filled(bias, call.heads, call.all_queries, call.all_keys)
    if parts:
        rows = [jnp.broadcast_to(part.astype(jnp.int32), (call.masks, call.keys)) for part in parts]
        by_name["key_parts"] = filled(jnp.stack(rows, axis=1), len(rows), call.all_keys)
    if call.segmented:
        by_name["query_segments"] = filled(arrays["query_segments"].astype(jnp.int32)[..., None], call.all_queries, 1)
    return by_name


def _cut(x: Array, name: str, call: Call) -> Array:
    """A result without what fills its blocks."""
    if name == "bias_gradient":
        return x[:, :, : call.queries, : call.keys]
    return x[:, : call.queries if name in ("attended", "query_gradient") else call.keys]
