"""Multi-scale deformable attention: each query looks up a few points of several maps, and adds up what it finds there.

Zhu, Su, Lu, Li, Wang, Dai: "Deformable DETR: Deformable Transformers for End-to-End Object Detection", 2020, arXiv 2010.04159,
equation 3.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from models.kernels.gradient import with_gradient
from models.kernels.precision import widened
from models.kernels.sampling import IN_BOUNDS, corners
from models.kernels.window import Pair

Value = Float[Array, "batch places heads dim"]
Locations = Float[Array, "batch queries heads levels points 2"]
Weights = Float[Array, "batch queries heads levels points"]
Attended = Float[Array, "batch queries heads dim"]
Taps = Float[Array, "batch queries heads taps"]
Places = Int[Array, "batch queries heads taps"]

FEW = 1_024
"""Of a level with no more places than that all products of gradients and values are computed, and looked up."""


def deformable_attention(
    value: Value, locations: Locations, weights: Weights, shapes: tuple[Pair, ...]
) -> Float[Array, "batch queries features"]:
    """Σ over levels and points of weight · value at the location, heads side by side.

    Args:
        value: the places of all levels behind one another, each row by row.
        locations: (x, y) as fractions of a level's width and height; what is outside is 0, and values are interpolated between
            places (`models.kernels.sampling`).
        weights: of each query's points, of all levels together.
        shapes: (height, width) of each level.
    """
    attended = _attend(value, widened(locations), widened(weights), shapes=tuple(shapes))
    return attended.reshape(*attended.shape[:2], -1)


def taps(locations: Locations, weights: Weights, shapes: tuple[Pair, ...]) -> tuple[Int[Array, "..."], Taps]:
    """The places that a query looks up, four around each point of each level, and what each counts."""
    places, shares = [], []
    firsts = itertools.accumulate((height * width for height, width in shapes), initial=0)
    for level, ((height, width), first) in enumerate(zip(shapes, firsts, strict=False)):
        around = corners(locations[:, :, :, level], height, width)
        places.append((around.places + first).reshape(*locations.shape[:3], -1))
        shares.append((around.shares * weights[:, :, :, level, :, None]).reshape(*locations.shape[:3], -1))
    return jnp.concatenate(places, axis=-1), jnp.concatenate(shares, axis=-1)


def rows_of(places: Int[Array, "batch queries heads taps"], value: Value) -> Int[Array, "batch queries heads taps"]:
    """The places as numbers of rows of `value.reshape(-1, dim)`."""
    batch, count, heads, _ = value.shape
    examples = jnp.arange(batch, dtype=jnp.int32)[:, None, None, None]
    return (examples * count + places) * heads + jnp.arange(heads, dtype=jnp.int32)[None, None, :, None]


def reference(value: Value, locations: Locations, weights: Weights, *, shapes: tuple[Pair, ...]) -> Attended:
    """One look-up of all that is asked for, and one product."""
    places, shares = taps(locations, weights, shapes)
    found = value.reshape(-1, value.shape[-1]).at[rows_of(places, value)].get(mode=IN_BOUNDS)
    return jnp.einsum("bqhkd,bqhk->bqhd", widened(found), shares).astype(value.dtype)


def _forward(value, locations, weights, *, shapes):
    def default(*arrays):
        return reference(*arrays, shapes=shapes)

    def cpu(*arrays):
        return cpu_attend(*arrays, shapes)

    attended = jax.lax.platform_dependent(value, locations, weights, cpu=cpu, default=default)
    return attended, (value, locations, weights)


def _backward(residuals, gradient, *, shapes):
    def default(value, locations, weights, gradient):
        _, pull = jax.vjp(lambda *arrays: reference(*arrays, shapes=shapes), value, locations, weights)
        return pull(gradient)

    def cpu(*arrays):
        return cpu_gradients(*arrays, shapes)

    return jax.lax.platform_dependent(*residuals, gradient, cpu=cpu, default=default)


_attend = with_gradient(reference, _forward, _backward)


@functools.partial(jax.jit, static_argnames="shapes")
def cpu_attend(value: Value, locations: Locations, weights: Weights, shapes: tuple[Pair, ...]) -> Attended:
    """One look-up after another, added up in one loop: XLA:CPU would write down what a look-up of all finds."""
    places, shares = taps(locations, weights, shapes)
    numbers, rows = rows_of(places, value), widened(value).reshape(-1, value.shape[-1])
    found = (rows.at[numbers[..., k]].get(mode=IN_BOUNDS) * shares[..., k, None] for k in range(numbers.shape[-1]))
    return sum(found).astype(value.dtype)


@functools.partial(jax.jit, static_argnames="shapes")
def cpu_gradients(
    value: Value, locations: Locations, weights: Weights, gradient: Attended, shapes: tuple[Pair, ...]
) -> tuple[Value, Locations, Weights]:
    """Those of the three: one sum into the places for all look-ups, and the product of the gradient with what each finds."""
    (places, shares), pull = jax.vjp(lambda *arrays: taps(*arrays, shapes), locations, weights)
    numbers, rows = rows_of(places, value), widened(value).reshape(-1, value.shape[-1])
    gradient = widened(gradient)
    of_shares, first = [], 0
    for (height, width), of_level in zip(shapes, jnp.split(places, len(shapes), axis=-1), strict=True):
        values = widened(value[:, first : first + height * width])
        of_shares.append((_products_of_few if height * width <= FEW else _products)(values, of_level - first, gradient))
        first += height * width
    none = np.zeros(places.shape, jax.dtypes.float0)
    of_locations, of_weights = pull((none, jnp.concatenate(of_shares, axis=-1).astype(shares.dtype)))
    added = shares[..., None] * gradient[..., None, :]
    of_rows = jnp.zeros_like(rows).at[numbers].add(added, mode=IN_BOUNDS)
    return of_rows.reshape(value.shape).astype(value.dtype), of_locations, of_weights


def _products(value: Value, places: Places, gradient: Attended) -> Taps:
    """Gradient · value at each of the places of a level, one look-up after another."""
    numbers, rows = rows_of(places, value), value.reshape(-1, value.shape[-1])
    found = [(rows.at[numbers[..., k]].get(mode=IN_BOUNDS) * gradient).sum(axis=-1) for k in range(numbers.shape[-1])]
    return jnp.stack(found, axis=-1)


def _products_of_few(value: Value, places: Places, gradient: Attended) -> Taps:
    """The same, looked up among the products with all places: XLA:CPU takes as long for the sum of one look-up as for some
    hundred products of a matrix. Head after head, so that those of one alone are held."""

    def of_head(arrays: tuple[Array, Array, Array]) -> Array:
        value, places, gradient = arrays
        return jnp.take_along_axis(gradient @ value.T, places, axis=-1, mode=IN_BOUNDS)

    by_head = (rearrange(x, "batch n heads k -> (batch heads) n k") for x in (value, places, gradient))
    found = jax.lax.map(of_head, tuple(by_head))
    return rearrange(found, "(batch heads) queries taps -> batch queries heads taps", batch=len(value))
