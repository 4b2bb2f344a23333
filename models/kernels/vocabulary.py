"""Scores of a whole vocabulary and their loss, chunk by chunk: tokens × vocabulary are never held at once.

The derivatives are computed with the loss, while a chunk's scores are there, and scaled by the loss's gradient later: so no
product is computed twice, as it would be if the backward pass made the scores again.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float, Int

from models.kernels.gradient import with_gradient
from models.kernels.linear import add_bias, matmul

MOST_SCORES = 2**26
"""Most scores that a chip holds at once."""

Judge = Callable[[Array, Array], tuple[Array, Array]]
"""Of scores (batch, places, vocab) and labels (batch, places): what is differentiated, and what is counted beside it, each summed
over the places."""


@contextlib.contextmanager
def whole_scores() -> Iterator[None]:
    """Within it scores of any number are computed at once, for who counts operations: XLA counts the body of a loop once."""
    global MOST_SCORES
    most, MOST_SCORES = MOST_SCORES, sys.maxsize
    try:
        yield
    finally:
        MOST_SCORES = most


def vocabulary_scores(
    hidden: Float[Array, "... features"], kernel: Float[Array, "features vocab"], bias: Float[Array, " vocab"] | None
) -> Float[Array, "... vocab"]:
    scores = matmul(hidden, kernel)
    return scores if bias is None else add_bias(scores, bias)


def judged(
    hidden: Float[Array, "batch places features"],
    kernel: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"] | None,
    labels: Int[Array, "batch places"],
    ignored: int,
    judge: Judge,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`judge(vocabulary_scores(hidden, kernel, bias), labels)`, where a place with the label `ignored` adds nothing to either."""
    return _judged(hidden, kernel, bias, labels, ignored=ignored, judge=judge)


def _reference(hidden, kernel, bias, labels, *, ignored, judge):
    return judge(vocabulary_scores(hidden, kernel, bias), labels)


def _forward(hidden, kernel, bias, labels, *, ignored, judge):
    found, slopes = on_mesh(hidden, kernel, bias, labels, ignored=ignored, judge=judge)
    return found, (hidden, kernel, bias, labels, *slopes)


def _backward(residuals, gradients, *, ignored, judge):
    slopes = residuals[4:]
    scaled = (None if x is None else (x * gradients[0]).astype(x.dtype) for x in slopes)
    return *scaled, None


_judged = with_gradient(_reference, _forward, _backward, inputs=lambda residuals: residuals[:4])


def on_mesh(hidden, kernel, bias, labels, **settings) -> tuple[tuple[Array, Array], tuple[Array, Array, Array | None]]:
    """`by_chunks`, where there is a mesh on the examples of each chip: derivatives are added up over chips once, not in every
    chunk. A vocabulary that is cut stays cut."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types:
        return by_chunks(hidden, kernel, bias, labels, **settings)
    (by_example,) = nn.logical_to_mesh_axes(("batch",))
    names = by_example if isinstance(by_example, tuple) else (by_example,)
    if by_example is None or len(hidden) % math.prod(mesh.shape[name] for name in names):
        return by_chunks(hidden, kernel, bias, labels, **settings)
    rows, whole = PartitionSpec(by_example), PartitionSpec()

    def of_chip(hidden, kernel, bias, labels):
        found, (along_hidden, *shared) = by_chunks(hidden, kernel, bias, labels, **settings)
        found, shared = jax.lax.psum((found, shared), by_example)
        return found, (along_hidden, *shared)

    return jax.shard_map(
        of_chip,
        mesh=mesh,
        in_specs=(rows, whole, whole, rows),
        out_specs=((whole, whole), (rows, whole, whole)),
        axis_names=set(names),
        check_vma=False,
    )(hidden, kernel, bias, labels)


def by_chunks(hidden, kernel, bias, labels, *, ignored: int, judge: Judge) -> tuple[tuple, tuple]:
    """What `judge` says of all places, and the derivatives of its first result by the other arguments."""
    batch, places, _ = hidden.shape
    chunks = min(places, -(-batch * places * kernel.shape[1] // MOST_SCORES))
    size = -(-places // chunks)
    missing = chunks * size - places

    def cut(x: Array, fill: Any) -> Array:
        x = jnp.pad(x, [(0, 0), (0, missing), *((0, 0),) * (x.ndim - 2)], constant_values=fill)
        return jnp.moveaxis(x.reshape(batch, chunks, size, *x.shape[2:]), 1, 0)

    def judged_chunk(part: tuple[Array, Array]) -> tuple[tuple, Array]:
        hidden, labels = part

        def judge_scores(*arrays):
            return judge(vocabulary_scores(*arrays), labels)

        amount, pull, counted = jax.vjp(judge_scores, hidden, kernel, bias, has_aux=True)
        along_hidden, *shared = pull(jnp.ones_like(amount))
        return (amount, counted, shared), along_hidden

    def of_chunk(sums: tuple, part: tuple[Array, Array]) -> tuple[tuple, Array]:
        found, along_hidden = judged_chunk(part)
        return jax.tree.map(jnp.add, sums, found), along_hidden

    parts = cut(hidden, 0), cut(labels, ignored)
    shapes, _ = jax.eval_shape(judged_chunk, jax.tree.map(lambda x: x[0], parts))
    begin = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (amount, counted, shared), along = jax.lax.scan(of_chunk, begin, parts)
    along = jnp.moveaxis(along, 0, 1).reshape(batch, chunks * size, -1)[:, :places]
    return (amount, counted), (along, *shared)
