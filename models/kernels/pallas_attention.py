"""Attention on TPUs that never writes scores: a Pallas kernel, forward and backward.

After Dao et al., "FlashAttention", 2022, arXiv 2205.14135, but simpler, since a TPU has room for all keys and values of a head
beside its arithmetic: a block of queries has its whole rows of scores there, so that the softmax and its gradient are those
of `models.kernels.attention`, weight for weight, and the backward pass keeps nothing but queries, keys and values.

Limits (`refusal` says which one is passed; the reference computes what is outside):

| what | inside |
| --- | --- |
| platform | TPU v5e, v5p, v6e; CPUs in Pallas' interpret mode, which is for tests; GPUs take the reference |
| dtype of queries, keys, values | float32, bfloat16 |
| features of a head | 32 to 128, a multiple of 8, the same of values |
| heads of queries to one of keys, times those that fill 128 lanes | 16 |
| keys, values, position biases and rows of scores of a head | 64 MiB: 12,288 keys of 128 features, or biases of 1,024 × 1,024 |
| what is asked | no probabilities, no cache |
| layers | `models.layers.attention.Attention` of models that hand masks over by their parts (a config's `attention_kernel`) |
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float

from models.kernels.pallas_blocks import Call, Refs
from models.layers.dropout import random_bits, threshold

LOWEST = float(jnp.finfo(jnp.float32).min)
"""The score of what a mask hides, as the reference has it."""


def forward_kernel(scalars, *arrays, call: Call) -> None:
    """A block of queries: with w = exp(score - the largest of its row), Σ w · value / Σ w."""
    refs = Refs(call, scalars, arrays, backward=False)
    for head in range(call.heads_together):
        columns, shared = call.columns(head)
        largest, chunks = score_rows(refs, head, call)

        def add(chunk, sums, head=head, largest=largest, shared=shared):
            total, attended = sums
            weights = jnp.exp(refs.scores[:, call.chunk(chunk)] - largest)
            total += weights.sum(axis=-1, keepdims=True)
            weights = weights.astype(call.dtype)
            if call.dropout_rate:
                weights = jnp.where(kept(refs, head, chunk), scaled(weights, call), 0)
            return total, attended + product(weights, refs.value[0, call.chunk(chunk), shared])

        begin = jnp.zeros((call.block_queries, 1), jnp.float32), jnp.zeros((call.block_queries, call.dim), jnp.float32)
        total, attended = jax.lax.fori_loop(0, chunks, add, begin)
        refs.attended[0, :, columns] = (attended * (1 / total)).astype(call.dtype)


def backward_kernel(scalars, *arrays, call: Call) -> None:
    """A block of queries: its gradients, and what it adds to those of keys, values and biases, which other blocks add to."""
    refs = Refs(call, scalars, arrays, backward=True)

    @pl.when(refs.block == 0)
    def _():
        refs.key_sums[...] = jnp.zeros_like(refs.key_sums)
        refs.value_sums[...] = jnp.zeros_like(refs.value_sums)

    if call.biases:

        @pl.when((refs.block == 0) & ((refs.example == 0) | (call.biases > 1)))
        def _():
            refs.bias_gradient[...] = jnp.zeros_like(refs.bias_gradient)

    for head in range(call.heads_together):
        backward_of_head(refs, head, call)

    @pl.when(refs.block == call.query_blocks - 1)
    def _():
        refs.key_gradient[0] = refs.key_sums[...].astype(call.dtype)
        refs.value_gradient[0] = refs.value_sums[...].astype(call.dtype)


def backward_of_head(refs: Refs, head: int, call: Call) -> None:
    """p being w / Σ w, of a score p · (gradient · value - Σ p · gradient · value), over the keys."""
    columns, shared = call.columns(head)
    gradient, query = refs.gradient[0, :, columns], refs.query[0, :, columns]
    largest, chunks = score_rows(refs, head, call)

    def weigh(chunk, sums):
        """Weights in the place of scores, negative where they are dropped, and gradient · value beside them."""
        total, along = sums
        at = call.chunk(chunk)
        weights = jnp.exp(refs.scores[:, at] - largest)
        products = product(gradient, refs.value[0, at, shared], over=1)
        total += weights.sum(axis=-1, keepdims=True)
        refs.scores[:, at] = weights
        if call.dropout_rate:
            keep = kept(refs, head, chunk)
            refs.scores[:, at] = jnp.where(keep, weights, -weights)
            products = jnp.where(keep, products / (1.0 - call.dropout_rate), 0.0)
        refs.products[:, at] = products
        return total, along + (weights * products).sum(axis=-1, keepdims=True)

    row = jnp.zeros((call.block_queries, 1), jnp.float32)
    total, along = jax.lax.fori_loop(0, chunks, weigh, (row, row))
    inverse = 1 / total
    seeing = jnp.where(largest > LOWEST, inverse, 0.0)  # no gradient by way of scores where a query sees nothing
    along *= inverse

    def pull(chunk, sums):
        at = call.chunk(chunk)
        weights = refs.scores[:, at]
        dropped = jnp.maximum(weights, 0.0) * inverse / (1.0 - call.dropout_rate)
        scores = jnp.abs(weights) * (refs.products[:, at] - along) * seeing
        if call.biases:
            refs.bias_gradient[0, head, call.rows(refs.block), at] += scores
        refs.value_sums[at, shared] += product(dropped.astype(call.dtype), gradient, over=0)
        scores = (scores * call.scale).astype(call.dtype)
        refs.key_sums[at, shared] += product(scores, query, over=0)
        return sums + product(scores, refs.key[0, at, shared])

    begin = jnp.zeros((call.block_queries, call.dim), jnp.float32)
    refs.query_gradient[0, :, columns] = jax.lax.fori_loop(0, chunks, pull, begin).astype(call.dtype)


def score_rows(refs: Refs, head: int, call: Call) -> tuple[Array, Array | int]:
    """Fills `refs.scores` with rows of scores; returns the largest of each, and how many chunks of keys were filled.

    What comes behind all queries of a causal block is left out, unless one of them may look nowhere, and so looks everywhere.
    """
    columns, shared = call.columns(head)
    query = refs.query[0, :, columns]

    def fill(chunk, largest):
        at = call.chunk(chunk)
        scores = product(query, refs.key[0, at, shared], over=1) * call.scale
        if call.biases:
            scores += refs.position_bias[0, head, call.rows(refs.block), at]
        scores = hidden(scores, refs, chunk)
        refs.scores[:, at] = scores
        return jnp.maximum(largest, scores.max(axis=-1, keepdims=True))

    largest = jnp.full((call.block_queries, 1), -jnp.inf)
    if not call.causal or call.prefixed:
        return jax.lax.fori_loop(0, call.chunks, fill, largest), call.chunks
    reached = (refs.block + 1) * call.block_queries
    seen = jnp.minimum(jax.lax.div(reached + call.chunk_keys - 1, call.chunk_keys), call.chunks)
    largest = jax.lax.fori_loop(0, seen, fill, largest)
    chunks = jnp.where(largest.min() <= LOWEST, call.chunks, seen)
    return jax.lax.fori_loop(seen, chunks, fill, largest), chunks


def hidden(scores: Float[Array, "queries keys"], refs: Refs, chunk) -> Float[Array, "queries keys"]:
    """`scores` as the mask has them: the lowest where a query may not look, and minus infinity where there is no key."""
    call = refs.call
    keys = chunk * call.chunk_keys + jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    if call.causal:
        seen = keys <= refs.block * call.block_queries + jax.lax.broadcasted_iota(jnp.int32, scores.shape, 0)
        if call.prefixed:
            seen |= refs.of_keys("prefix_mask", chunk, scores.shape) > 0
        scores = jnp.where(seen, scores, LOWEST)
    if call.attended:
        scores = jnp.where(refs.of_keys("attended", chunk, scores.shape) > 0, scores, LOWEST)
    if call.segmented:
        own = jnp.broadcast_to(refs.query_segments[0], scores.shape)
        scores = jnp.where(own == refs.of_keys("segment_ids", chunk, scores.shape), scores, LOWEST)
    return scores if call.keys == call.all_keys else jnp.where(keys < call.keys, scores, -jnp.inf)


def kept(refs: Refs, head: int, chunk) -> Bool[Array, "queries keys"]:
    """Which weights dropout keeps: by the hash of `models.layers.dropout`, of the key of the example and of the place."""
    call, shape = refs.call, (refs.call.block_queries, refs.call.chunk_keys)
    number = (refs.scalars[0] + refs.head_block * call.heads_together + head).astype(jnp.uint32)
    first = number * jnp.uint32(call.queries) + (refs.block * call.block_queries).astype(jnp.uint32)
    rows = jax.lax.broadcasted_iota(jnp.uint32, shape, 0) + first
    columns = jax.lax.broadcasted_iota(jnp.uint32, shape, 1) + (chunk * call.chunk_keys).astype(jnp.uint32)
    words = (refs.scalars[1 + 2 * refs.example + n].astype(jnp.uint32) for n in range(2))
    return random_bits(rows * jnp.uint32(call.keys) + columns, words) < jnp.uint32(threshold(call.dropout_rate))


def scaled(weights: Array, call: Call) -> Array:
    """Weights that dropout keeps, as it scales them."""
    return (weights.astype(jnp.float32) / jnp.asarray(1.0 - call.dropout_rate, call.dtype).astype(jnp.float32)).astype(
        call.dtype
    )


def product(left: Array, right: Array, over: int | None = None) -> Array:
    """left · right in float32; `over` 1 both go by their features, 0 by their rows."""
    contracted = ((1,), (0,)) if over is None else ((over,), (over,))
    return jax.lax.dot_general(left, right, (contracted, ((), ())), preferred_element_type=jnp.float32)


def run(call: Call, backward: bool, scalars: Array, arrays: dict[str, Array | None]) -> dict[str, Array]:
    """The kernel over all heads, examples and blocks of queries: its results by name."""
    inputs, outputs = call.inputs(backward), call.outputs(backward)

    def run_as(interpret: bool, scalars: Array, *given: Array) -> tuple[Array, ...]:
        return pl.pallas_call(
            functools.partial(backward_kernel if backward else forward_kernel, call=call),
            out_shape=call.results(backward),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=1,
                grid=(call.head_blocks, call.batch, call.query_blocks),
                in_specs=[call.blocks[name] for name in inputs],
                out_specs=tuple(call.blocks[name] for name in outputs),
                scratch_shapes=tuple(call.scratch(backward).values()),
            ),
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=call.VMEM
            ),
            cost_estimate=call.cost(backward),
            interpret=interpret,
            name="attention_backward" if backward else "attention_forward",
        )(scalars, *given)

    results = jax.lax.platform_dependent(
        scalars,
        *(arrays[name] for name in inputs),
        cpu=functools.partial(run_as, True),
        default=functools.partial(run_as, False),
    )
    return dict(zip(outputs, results, strict=True))
