"""Feature maps of another size. Images are (batch, height, width, channels)."""

import jax.numpy as jnp

from models.kernels.window import Image


def doubled(x: Image) -> Image:
    """Twice as many rows and columns, bilinear, as torch's `interpolate` with `align_corners=False` has them: each is three
    quarters of the nearest and a quarter of the second nearest, which beyond an edge is the nearest itself."""
    return _doubled_along(_doubled_along(x, 1), 2)


def _doubled_along(x: Image, axis: int) -> Image:
    first, last = (jnp.take(x, jnp.asarray([place]), axis=axis) for place in (0, x.shape[axis] - 1))
    inner = [slice(None)] * x.ndim
    before = jnp.concatenate([first, x[(*inner[:axis], slice(None, -1))]], axis)
    after = jnp.concatenate([x[(*inner[:axis], slice(1, None))], last], axis)
    both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return both.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
