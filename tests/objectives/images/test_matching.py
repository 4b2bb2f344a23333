"""Matching on the device held against SciPy's `linear_sum_assignment`, in cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from objectives.images.matching import match

solve = jax.jit(jax.vmap(match))
SIZES = [(10, 4), (6, 6), (4, 9), (1, 3), (12, 1), (40, 15)]


def random(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape)


def tied(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 3, shape)


def constant(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(rng.normal(size=(shape[0], 1, 1)), shape)


def alike(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All objects want the same queries in the same order, so that every path is long."""
    return np.add.outer(rng.random(shape[0]), np.multiply.outer(np.arange(shape[1]), np.arange(shape[2]))) % 7.5


def partly_infinite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.4, np.inf, rng.normal(size=shape))


def no_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    broken = rng.choice([np.inf, -np.inf, np.nan, 0.0], shape)
    return np.where(rng.random(shape) < 0.3, broken, rng.normal(size=shape))


def of_all_sizes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape) * 10.0 ** rng.integers(-30, 38, (shape[0], 1, 1))


PROBLEMS = [random, tied, constant, alike, partly_infinite, no_numbers, of_all_sizes]


def check(cost: np.ndarray, valid: np.ndarray, found: np.ndarray) -> None:
    """As many pairs as there can be, each query once, and no better ones."""
    assert (found[~valid] == -1).all()
    columns, queries = cost[:, valid].astype(np.float64), found[valid]
    matched = queries >= 0
    assert matched.sum() == min(columns.shape) == len(set(queries[matched]))
    finite = np.isfinite(columns)
    largest = np.abs(columns[finite]).max(initial=0.0)
    columns = np.where(finite, columns, 2 * (1 + max(columns.shape)) * (largest + 1e-30))
    best = columns[linear_sum_assignment(columns)].sum()
    assert columns[queries[matched], np.flatnonzero(matched)].sum() <= best + 1e-5 * largest


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda x: x.__name__)
@pytest.mark.parametrize("size", SIZES, ids=lambda x: f"{x[0]} x {x[1]}")
def test_no_matching_costs_less(size, problem):
    """240 problems of each of 42 sorts, 10,080 together, with any number of objects that are padding, often all or none."""
    rng = np.random.default_rng(0)
    cost = problem(rng, (240, *size)).astype(np.float32)
    valid = rng.random((240, size[1])) < rng.choice([0.0, 0.5, 0.9, 1.0], (240, 1))
    found = np.asarray(solve(cost, valid))
    assert found.shape == valid.shape and found.dtype == np.int32
    for one in zip(cost, valid, found, strict=True):
        check(*one)


def test_a_problem_is_solved_alone_as_among_others():
    rng = np.random.default_rng(1)
    cost, valid = jnp.asarray(rng.integers(0, 4, (6, 9, 5)), jnp.float32), jnp.asarray(rng.random((6, 5)) < 0.7)
    for number, found in enumerate(solve(cost, valid)):
        np.testing.assert_array_equal(found, jax.jit(match)(cost[number], valid[number]))


def test_nothing_is_differentiated():
    cost = jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)), jnp.float32)

    def chosen(cost):
        queries = match(cost, jnp.ones(3, bool))
        return jnp.take_along_axis(cost, queries[None], axis=0).sum()

    gradient = jax.jit(jax.grad(chosen))(cost)
    assert float(gradient.sum()) == 3.0 and set(np.unique(gradient)) == {0.0, 1.0}


def test_bfloat16_is_matched_in_float32():
    cost = jnp.asarray([[1.0, 2.0], [2.0, 1.0]], jnp.bfloat16)
    assert match(cost, jnp.ones(2, bool)).tolist() == [0, 1]
