"""Maps looked up between their places, and deformable attention, against loops over points written the slow, obvious way."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels.deformable_attention import deformable_attention
from models.kernels.sampling import sample_each, sample_together

SHAPES = ((2, 3), (4, 5), (7, 6))
BATCH, QUERIES, HEADS, POINTS, DIM = 2, 5, 3, 4, 3
BORDERS = (-1.0, -0.3, -0.02, 0.0, 0.01, 0.5, 0.99, 1.0, 1.02, 1.4, 7.0, 1e9)


def looked_up(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """(height, width, …) at (x, y), fractions of width and height: bilinear, zeros around."""
    height, width = image.shape[:2]
    column, row = x * width - 0.5, y * height - 0.5
    total = np.zeros(image.shape[2:])
    if abs(column) > 1e6 or abs(row) > 1e6:
        return total
    for i, j in itertools.product((0, 1), repeat=2):
        r, c = math.floor(row) + i, math.floor(column) + j
        if 0 <= r < height and 0 <= c < width:
            total = total + (1 - abs(row - r)) * (1 - abs(column - c)) * image[r, c]
    return total


def points_at_borders() -> np.ndarray:
    return np.array(list(itertools.product(BORDERS, repeat=2)), np.float32)


def test_maps_are_sampled_together_and_each_at_points_of_its_own():
    random = np.random.default_rng(0)
    maps, points = random.normal(size=(3, 4, 7)).astype(np.float32), points_at_borders()
    expected = np.array([[looked_up(one, *point) for point in points] for one in maps])
    np.testing.assert_allclose(sample_together(jnp.asarray(maps), jnp.asarray(points)), expected, atol=1e-5)
    shifted = np.stack([np.roll(points, n, axis=0) for n in range(3)])
    found = sample_each(jnp.asarray(maps), jnp.asarray(shifted))
    np.testing.assert_allclose(found, [np.roll(row, n) for n, row in enumerate(expected)], atol=1e-5)
    whole = sample_together(jnp.asarray(maps > 0).astype(jnp.uint8), jnp.asarray(points))
    np.testing.assert_allclose(whole, [[looked_up(x, *p) for p in points] for x in (maps > 0) * 1.0], atol=1e-5)


def arguments():
    """Random points, of which a third lies at or beyond borders."""
    random = np.random.default_rng(1)
    places = sum(height * width for height, width in SHAPES)
    value = random.normal(size=(BATCH, places, HEADS, DIM))
    locations = random.uniform(-0.3, 1.3, (BATCH, QUERIES, HEADS, len(SHAPES), POINTS, 2))
    chosen = random.random(locations.shape) < 0.3
    locations = np.where(chosen, random.choice(BORDERS, locations.shape), locations)
    weights = random.dirichlet(np.ones(len(SHAPES) * POINTS), (BATCH, QUERIES, HEADS))
    weights = weights.reshape(BATCH, QUERIES, HEADS, len(SHAPES), POINTS)
    return [x.astype(np.float32) for x in (value, locations, weights)]


def slowly(value: np.ndarray, locations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A loop over every point."""
    found = np.zeros((BATCH, QUERIES, HEADS, DIM))
    for b, q, h in np.ndindex(BATCH, QUERIES, HEADS):
        first = 0
        for level, (height, width) in enumerate(SHAPES):
            image = value[b, first : first + height * width, h].reshape(height, width, DIM).astype(np.float64)
            for point in range(POINTS):
                weight = weights[b, q, h, level, point]
                found[b, q, h] += weight * looked_up(image, *locations[b, q, h, level, point].astype(np.float64))
            first += height * width
    return found.reshape(BATCH, QUERIES, HEADS * DIM)


def test_attention_is_the_sum_over_points():
    value, locations, weights = arguments()
    found = jax.jit(deformable_attention, static_argnums=3)(value, locations, weights, SHAPES)
    np.testing.assert_allclose(found, slowly(value, locations, weights), atol=2e-5)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["value", "locations", "weights"])
def test_gradients_are_those_of_differences(which):
    """In float64, along a random direction; points that lie on places, where there is no derivative, are moved off."""
    with jax.enable_x64(True):
        given = [jnp.asarray(x, jnp.float64) for x in arguments()]
        given[1] = jnp.where(jnp.abs(given[1]) > 3, 3.1, given[1] + 0.00123)
        random = np.random.default_rng(2)
        along = jnp.asarray(random.normal(size=given[which].shape))
        asked = jnp.asarray(random.normal(size=(BATCH, QUERIES, HEADS * DIM)))

        def amount(x):
            moved = [*given[:which], x, *given[which + 1 :]]
            return (deformable_attention(*moved, SHAPES) * asked).sum()

        found = (jax.grad(amount)(given[which]) * along).sum()
        step = 1e-6
        expected = (amount(given[which] + step * along) - amount(given[which] - step * along)) / (2 * step)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
