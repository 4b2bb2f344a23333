"""Bilinear sampling of maps with zero padding: `grid_sample` of torch with `align_corners=False`.

A point (x, y) is a fraction of the map's width and height: (0, 0) is its upper left corner, (1, 1) its lower right one, and the
middle of the first place is half a place from both sides.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(Δrow, Δcolumn) of the four places around a point."""
IN_BOUNDS = "promise_in_bounds"


class Corners(NamedTuple):
    """The four places around each point.

    Attributes:
        places: row · width + column; any place of the map where the corner is outside.
        shares: what of each place's value is the point's; 0 where there is none.
    """

    places: Int[Array, "*points 4"]
    shares: Float[Array, "*points 4"]


def corners(points: Float[Array, "*points 2"], height: int, width: int) -> Corners:
    """The places around points of a map of this size. Points beyond the places outside count as there, where all is 0."""
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    inside = (jnp.abs(x - (width - 1) / 2) < width / 2 + 0.5) & (jnp.abs(y - (height - 1) / 2) < height / 2 + 0.5)
    x, y = jnp.where(inside, x, -2.0), jnp.where(inside, y, -2.0)
    left, above = jax.lax.stop_gradient((jnp.floor(x), jnp.floor(y)))
    right_share, below_share = x - left, y - above
    places, shares = [], []
    for below, right in CORNERS:
        row, column = above + below, left + right
        there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        share = (below_share if below else 1 - below_share) * (right_share if right else 1 - right_share)
        place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        places.append(place.astype(jnp.int32))
        shares.append(jnp.where(there, share, 0.0))
    return Corners(jnp.stack(places, axis=-1), jnp.stack(shares, axis=-1))


def sample_together(
    maps: Shaped[Array, "maps height width"], points: Float[Array, "points 2"]
) -> Float[Array, "maps points"]:
    """Samples all maps at the same points."""
    count, height, width = maps.shape
    places, shares = corners(points, height, width)
    looked_up = maps.reshape(count, -1).at[:, places].get(mode=IN_BOUNDS)
    return (looked_up * shares[None]).sum(axis=-1)


def sample_each(
    maps: Shaped[Array, "maps height width"], points: Float[Array, "maps points 2"]
) -> Float[Array, "maps points"]:
    """Samples each map at its points."""
    count, height, width = maps.shape
    places, shares = corners(points, height, width)
    looked_up = jnp.take_along_axis(maps.reshape(count, -1), places.reshape(count, -1), axis=1, mode=IN_BOUNDS).reshape(
        places.shape
    )
    return (looked_up * shares).sum(axis=-1)
