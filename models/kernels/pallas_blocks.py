"""How attention's Pallas kernel cuts its arrays into blocks.

Arrays are (batch, length, heads · dim), as projections give and take them. A step of the grid (blocks of heads, examples, blocks
of queries) has one block of queries, of as many heads as fill whole lanes, and all keys and values of the heads that these
share.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES, SUBLANES = 128, 16


def padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of the kernel, but for its arrays.

    Attributes:
        heads, key_value_heads: of queries, and of keys and values.
        dim: features of a head.
        scale: of the scores, which are multiplied by it in float32.
        causal, attended, prefixed, segmented: which parts of a mask there are.
        masks: rows of the mask: one for each example, or one for all.
        biases: how many examples have position biases of their own: 0 where there are none, 1 where all share them.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    key_value_heads: int
    dim: int
    dtype: Any
    scale: float = 1.0
    dropout_rate: float = 0.0
    causal: bool = False
    attended: bool = False
    prefixed: bool = False
    segmented: bool = False
    masks: int = 1
    biases: int = 0

    VMEM = 64 * 2**20
    """Bytes beside its arithmetic that a kernel may have."""
    LONGEST_CHUNK = 512
    """Most keys whose scores are computed at once."""
    ROWS = 4 * 2**20
    """Bytes of scores in a block of queries, where the block need not be the smallest."""

    @property
    def group(self) -> int:
        """Heads of queries to one of keys."""
        return self.heads // self.key_value_heads

    @property
    def shared_together(self) -> int:
        """Heads of keys in a block: as many as fill whole lanes, or all."""
        return min(math.lcm(self.dim, LANES) // self.dim, self.key_value_heads)

    @property
    def heads_together(self) -> int:
        return self.group * self.shared_together

    @property
    def head_blocks(self) -> int:
        return -(-self.key_value_heads // self.shared_together)

    @property
    def all_keys(self) -> int:
        """Keys, with those that fill lanes."""
        return padded(self.keys, LANES)

    @property
    def chunk_keys(self) -> int:
        """Keys whose scores are computed at once."""
        sizes = range(LANES, max(LANES, min(self.LONGEST_CHUNK, self.all_keys)) + 1, LANES)
        return max(size for size in sizes if self.all_keys % size == 0)

    @property
    def chunks(self) -> int:
        return self.all_keys // self.chunk_keys

    @property
    def block_queries(self) -> int:
        most = max(LANES, self.ROWS // (4 * self.all_keys) // LANES * LANES)
        if self.queries <= min(most, 512):
            return padded(self.queries, SUBLANES)
        whole = padded(self.queries, LANES)
        return max(size for size in range(LANES, min(most, 512) + 1, LANES) if whole % size == 0)

    @property
    def query_blocks(self) -> int:
        return -(-self.queries // self.block_queries)

    @property
    def all_queries(self) -> int:
        """Queries, with those that fill blocks."""
        return self.query_blocks * self.block_queries

    @property
    def key_parts(self) -> tuple[str, ...]:
        """What is known of keys, in the order of its rows."""
        parts = dict(attended=self.attended, prefix_mask=self.prefixed, segment_ids=self.segmented)
        return tuple(name for name, given in parts.items() if given)

    def columns(self, head: int) -> tuple[slice, slice]:
        """The features of a head of a block: of its queries, and of the keys that it shares."""
        shared = head // self.group
        return slice(head * self.dim, (head + 1) * self.dim), slice(shared * self.dim, (shared + 1) * self.dim)

    def chunk(self, number):
        """The keys of a chunk."""
        if self.chunks == 1:
            return slice(0, self.all_keys)
        return pl.ds(pl.multiple_of(number * self.chunk_keys, LANES), self.chunk_keys)

    def rows(self, block):
        """The queries of a block among all."""
        if self.query_blocks == 1:
            return slice(0, self.all_queries)
        return pl.ds(pl.multiple_of(block * self.block_queries, SUBLANES), self.block_queries)

    # ── What Pallas is told ──────────────────────────────────────────────────────────────────────────────────────────

    @functools.cached_property
    def blocks(self) -> dict[str, pl.BlockSpec]:
        """Of each array by name."""
        rows = (1, self.block_queries, self.heads_together * self.dim)
        keys = (1, self.all_keys, self.shared_together * self.dim)
        own, others = pl.BlockSpec(rows, lambda h, b, q, _: (b, q, h)), pl.BlockSpec(keys, lambda h, b, q, _: (b, 0, h))
        all_have = self.masks > 1
        parts = pl.BlockSpec((1, len(self.key_parts), self.all_keys), lambda h, b, q, _: (b if all_have else 0, 0, 0))
        segments = pl.BlockSpec((1, self.block_queries, 1), lambda h, b, q, _: (b if all_have else 0, q, 0))
        each = self.biases > 1
        bias = pl.BlockSpec(
            (1, self.heads_together, self.all_queries, self.all_keys), lambda h, b, q, _: (b if each else 0, h, 0, 0)
        )
        return dict(
            query=own,
            key=others,
            value=others,
            position_bias=bias,
            key_parts=parts,
            query_segments=segments,
            gradient=own,
            attended=own,
            query_gradient=own,
            key_gradient=others,
            value_gradient=others,
            bias_gradient=bias,
        )

    def inputs(self, backward: bool) -> tuple[str, ...]:
        """The names of what the kernel reads, in order."""
        given = dict(
            position_bias=self.biases, key_parts=self.key_parts, query_segments=self.segmented, gradient=backward
        )
        return ("query", "key", "value", *(name for name, there in given.items() if there))

    def outputs(self, backward: bool) -> tuple[str, ...]:
        if not backward:
            return ("attended",)
        return ("query_gradient", "key_gradient", "value_gradient", *(("bias_gradient",) if self.biases else ()))

    def scratch(self, backward: bool) -> dict[str, Any]:
        """What it keeps beside them from one step of the grid to the next."""
        rows = pltpu.VMEM((self.block_queries, self.all_keys), jnp.float32)
        if not backward:
            return dict(scores=rows)
        sums = pltpu.VMEM((self.all_keys, self.shared_together * self.dim), jnp.float32)
        return dict(scores=rows, products=rows, key_sums=sums, value_sums=sums)

    def results(self, backward: bool) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of what it gives."""
        rows = (self.batch, self.all_queries, self.heads * self.dim)
        keys = (self.batch, self.all_keys, self.key_value_heads * self.dim)
        shapes = dict(attended=rows, query_gradient=rows, key_gradient=keys, value_gradient=keys)
        shapes["bias_gradient"] = (self.biases, self.heads, self.all_queries, self.all_keys)
        return tuple(
            jax.ShapeDtypeStruct(shapes[name], jnp.float32 if name == "bias_gradient" else self.dtype)
            for name in self.outputs(backward)
        )

    def cost(self, backward: bool) -> pl.CostEstimate:
        """By formula: two products forward, five backward, what a mask hides counted in full; each array read or written once."""
        scores = self.batch * self.heads * self.queries * self.keys
        size = jnp.dtype(self.dtype).itemsize
        rows, keys = self.queries * self.heads, self.keys * self.key_value_heads
        arrays = (3 * rows + 4 * keys) if backward else (2 * rows + 2 * keys)
        biases = 4 * self.biases * self.heads * self.queries * self.keys * (2 if backward else 1)
        return pl.CostEstimate(
            flops=(10 if backward else 4) * scores * self.dim,
            transcendentals=scores,
            bytes_accessed=self.batch * arrays * self.dim * size + biases,
        )

    def vmem(self) -> int:
        """Bytes that the backward kernel has beside its arithmetic, the larger of the two: each block twice, since the next is
        read while one is worked on."""
        size = jnp.dtype(self.dtype).itemsize
        sizes = {
            name: math.prod(self.blocks[name].block_shape) * (4 if "bias" in name else size)
            for name in (*self.inputs(True), *self.outputs(True))
        }
        kept = sum(math.prod(x.shape) * 4 for x in self.scratch(True).values())
        return 2 * sum(sizes.values()) + kept + 6 * 4 * self.block_queries * self.chunk_keys


class Refs:
    """What a step of the grid sees: arrays by name, and its place: the block of heads, the example, the block of queries."""

    def __init__(self, call: Call, scalars: Any, arrays: tuple, backward: bool):
        names = *call.inputs(backward), *call.outputs(backward), *call.scratch(backward)
        self.call, self.scalars = call, scalars
        self.arrays = dict(zip(names, arrays, strict=True))
        self.head_block, self.example, self.block = (pl.program_id(axis) for axis in range(3))

    def __getattr__(self, name: str) -> Any:
        return self.arrays[name]

    def of_keys(self, name: str, chunk, shape: tuple[int, int]) -> jax.Array:
        """What is known of the keys of a chunk, for each query."""
        row = self.call.key_parts.index(name)
        return jnp.broadcast_to(self.key_parts[0, row : row + 1, self.call.chunk(chunk)], shape)
