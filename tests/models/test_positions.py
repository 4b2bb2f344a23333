"""Positions of patches, resized: what is constant and what is linear stays so."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.positions import resize_matrix, resize_positions


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("after", [1, 7, 14, 24])
def test_resizing_keeps_what_is_constant_and_what_does_not_change_in_size(method, after):
    matrix = resize_matrix(14, after, method)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    if after == 14:
        np.testing.assert_allclose(matrix, np.eye(14), atol=1e-6)


def test_bicubic_resizing_keeps_a_slope_away_from_the_ends():
    """A straight line stays one where no sample reaches beyond the ends; Keys' kernel does that whatever its a."""
    places = (np.arange(48) + 0.5) * 16 / 48 - 0.5
    inner = (places > 1) & (places < 14)
    cubic = resize_matrix(16, 48) @ np.arange(16)
    assert np.abs(cubic[inner] - places[inner]).max() < 0.1  # a = -0.5 alone would keep it to the last digit
    assert np.abs(cubic[inner] - places[inner]).max() > 0.01


def test_rows_and_columns_are_resized_apart_and_cls_is_kept():
    rows, columns = jnp.arange(4.0), jnp.arange(6.0) * 10
    grid = (rows[:, None] + columns[None]).reshape(1, 24, 1)
    positions = jnp.concatenate([jnp.full((1, 1, 1), 99.0), grid], axis=1)
    resized = resize_positions(positions, (4, 6), (7, 11), "bilinear")
    assert resized[0, 0, 0] == 99
    expected = np.linspace(0, 3, 7)[:, None] + np.linspace(0, 50, 11)[None]
    np.testing.assert_allclose(resized[0, 1:, 0].reshape(7, 11), expected, rtol=1e-5)
