"""Bipartite matching of queries with objects that minimises the sum of the costs.

Exact, on the device, and mapped over a batch (`jax.vmap`): shortest augmenting paths (Jonker & Volgenant, "A Shortest Augmenting
Path Algorithm for Dense and Sparse Linear Assignment Problems", Computing 38, 1987; as SciPy's, Crouse, "On Implementing 2D
Rectangular Assignment Algorithms", IEEE Transactions on Aerospace and Electronic Systems 52, 2016). All problems of a batch go
through one loop, in which each does its next step. Rows are the smaller side, so that padding objects cost nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.kernels.precision import widened

NONE = -1
"""No row or no column."""


class Search(NamedTuple):
    """State of the search for shortest augmenting paths.

    Attributes:
        prices: dual variable of each column: a matched row has its least cost - price at its column.
        columns: column of each row; `NONE` if unmatched.
        rows: row of each column; `NONE` if unmatched.
        row: the unmatched row that a path begins at.
        last: the row whose costs are scanned next: `row`, or one that would have to give up its column.
        reached: cost of the path to `last`.
        distances: cost of the cheapest known path to each column.
        before: the row before each column on that path.
        seen: whether a column's distance is final.
        walked: the column at which the path is augmented backwards; `NONE` while it is searched.
    """

    prices: Float[Array, " columns"]
    columns: Int[Array, " rows"]
    rows: Int[Array, " columns"]
    row: Int[Array, ""]
    last: Int[Array, ""]
    reached: Float[Array, ""]
    distances: Float[Array, " columns"]
    before: Int[Array, " columns"]
    seen: Bool[Array, " columns"]
    walked: Int[Array, ""]


def match(cost: Float[Array, "queries objects"], valid: Bool[Array, " objects"]) -> Int[Array, " objects"]:
    """The query of each object; -1 for padding (not `valid`) and, with more objects than queries, for the costliest objects.
    No gradient passes through it.

    A pair with a non-finite cost is matched only if it cannot be avoided.
    """
    queries, objects = cost.shape
    size, count = max(queries, objects), valid.sum()
    cost = but_finite(jax.lax.stop_gradient(widened(cost)), valid)
    if objects <= queries:
        return assign(cost.T, valid, jnp.ones(queries, bool))[0]
    turned = count <= queries  # then objects are the rows, else queries
    wide = jnp.zeros((size, size), cost.dtype).at[:objects, :queries].set(cost.T)
    tall = jnp.zeros((size, size), cost.dtype).at[:queries, :objects].set(cost)
    is_object, is_query = valid, jnp.arange(size) < queries
    rows, columns = jnp.where(turned, is_object, is_query), jnp.where(turned, is_query, is_object)
    of_rows, of_columns = assign(jnp.where(turned, wide, tall), rows, columns)
    return jnp.where(turned, of_rows, of_columns)


def but_finite(
    cost: Float[Array, "queries objects"], valid: Bool[Array, " objects"]
) -> Float[Array, "queries objects"]:
    """Replaces non-finite costs by one that exceeds any difference of finite matchings."""
    finite = jnp.isfinite(cost)
    counted = finite & valid[None]
    huge = jnp.max(jnp.abs(cost), where=counted, initial=0.0) > 2.0**90
    cost = cost * jnp.where(huge, 2.0**-64, 1.0).astype(cost.dtype)  # so that no sum of some is infinite
    least = jnp.min(cost, where=counted, initial=jnp.inf)
    most = jnp.max(cost, where=counted, initial=-jnp.inf)
    differ = jnp.where(counted.any(), 1.001 * (most - least), 0.0)
    large = jnp.where(counted.any(), most, 0.0) + (1 + min(cost.shape)) * differ + 1
    return jnp.where(finite, cost, large)


def assign(
    cost: Float[Array, "rows columns"], wanted: Bool[Array, " rows"], there: Bool[Array, " columns"]
) -> tuple[Int[Array, " rows"], Int[Array, " columns"]]:
    """The column of each row and the row of each column; `NONE` if unmatched.

    Args:
        wanted: the rows to match; there must be at least as many columns as rows.
        there: the columns that may be matched.
    """
    open_cost = jnp.where(there[None], cost, jnp.inf)
    state = begin(open_cost, wanted)

    def unfinished(state: Search) -> Bool[Array, ""]:
        return state.row != NONE

    state = jax.lax.while_loop(unfinished, lambda state: step(open_cost, wanted, state), state)
    return state.columns, state.rows


def begin(cost: Float[Array, "rows columns"], wanted: Bool[Array, " rows"]) -> Search:
    """Greedy start: each row takes its cheapest column, unless an earlier row took it."""
    rows, columns = cost.shape
    cheapest = cost.argmin(axis=1)
    asked = (cheapest[:, None] == jnp.arange(columns)[None]) & wanted[:, None]
    taken = asked.any(axis=0)
    first = asked.argmax(axis=0)
    of_columns = jnp.where(taken, first, NONE).astype(jnp.int32)
    served = (of_columns[cheapest] == jnp.arange(rows)) & wanted
    state = Search(
        prices=jnp.zeros(columns, cost.dtype),
        columns=jnp.where(served, cheapest, NONE).astype(jnp.int32),
        rows=of_columns,
        row=jnp.int32(NONE),
        last=jnp.int32(NONE),
        reached=jnp.zeros((), cost.dtype),
        distances=jnp.full(columns, jnp.inf, cost.dtype),
        before=jnp.full(columns, NONE, jnp.int32),
        seen=jnp.zeros(columns, bool),
        walked=jnp.int32(NONE),
    )
    return look_next(state, wanted)


def look_next(state: Search, wanted: Bool[Array, " rows"]) -> Search:
    """Begins the search at the first unmatched row."""
    waiting = wanted & (state.columns == NONE)
    row = jnp.where(waiting.any(), waiting.argmax(), NONE).astype(jnp.int32)
    return state._replace(
        row=row,
        last=row,
        reached=jnp.zeros_like(state.reached),
        distances=jnp.full_like(state.distances, jnp.inf),
        before=jnp.full_like(state.before, NONE),
        seen=jnp.zeros_like(state.seen),
        walked=jnp.int32(NONE),
    )


def step(cost: Float[Array, "rows columns"], wanted: Bool[Array, " rows"], state: Search) -> Search:
    """One step of the search, or one step back along the path that it found."""
    searched, walked = search(cost, state), walk(state)
    state = jax.tree.map(lambda x, y: jnp.where(state.walked == NONE, x, y), searched, walked)
    has = (state.row != NONE) & (state.columns[state.row] != NONE) & (state.walked == NONE)
    following = look_next(state, wanted)
    return jax.tree.map(lambda x, y: jnp.where(has, x, y), following, state)


def search(cost: Float[Array, "rows columns"], state: Search) -> Search:
    """Relaxes distances by the costs of row `last`, and moves to the nearest column not seen."""
    places = jnp.arange(cost.shape[1])
    reduced = cost[state.last] - state.prices
    column = state.columns[state.last]
    # The row that looks has no column; what its costs begin at changes no comparison.
    base = jnp.where(column == NONE, 0.0, reduced[column])
    distances = state.reached + reduced - base
    nearer = ~state.seen & (distances < state.distances)
    distances = jnp.where(nearer, distances, state.distances)
    before = jnp.where(nearer, state.last, state.before)
    left = jnp.where(state.seen, jnp.inf, distances)
    reached = left.min()
    free = state.rows == NONE
    nearest = ((left == reached) * (1 + free) * ~state.seen).argmax().astype(jnp.int32)
    ends = free[nearest]
    seen = state.seen | (places == nearest)
    # Prices of what was seen fall, so that each row on the path is as well off with its next column.
    prices = jnp.where(ends & state.seen, state.prices - (reached - state.distances), state.prices)
    return state._replace(
        prices=prices,
        last=jnp.where(ends, state.last, state.rows[nearest]),
        reached=reached,
        distances=distances,
        before=before,
        seen=seen,
        walked=jnp.where(ends, nearest, NONE),
    )


def walk(state: Search) -> Search:
    """Augments: matches column `walked` with the row before it, and continues at that row's old column."""
    row = state.before[state.walked]
    column = state.columns[row]
    return state._replace(
        columns=jnp.where(jnp.arange(len(state.columns)) == row, state.walked, state.columns),
        rows=jnp.where(jnp.arange(len(state.rows)) == state.walked, row, state.rows),
        walked=jnp.where(row == state.row, NONE, column),
    )
