"""Learning rates that differ: they fall from layer to layer, the nearer to the input, or are lower in some part of a model.

Clark et al., "ELECTRA", 2020, arXiv 2003.10555, appendix B; for pictures Bao et al., "BEiT", 2021, arXiv 2106.08254.
"""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from models.layers.axes import path_of

Depth = Callable[[str], int | tuple[int, ...]]
"""How far the parameter at a path is from the input: 0, 1, …; of a stacked one, each layer of it (`models.model.Model.depth`)."""


def layer_rates(params: PyTree, decay: float, depth: Depth) -> PyTree:
    """For each parameter `decay` to the power of its distance from the deepest; for a stacked one an array, by layers."""
    depths = jax.tree_util.tree_map_with_path(lambda path, _: np.asarray(depth(path_of(path))), params)
    deepest = max(depth.max() for depth in jax.tree.leaves(depths))
    return jax.tree.map(lambda depth: np.asarray(decay ** (deepest - depth), np.float32), depths)


def scale_by_layer(decay: float, depth: Depth) -> optax.GradientTransformation:
    """Updates times the rates of their layers."""

    def init(params: Any) -> optax.EmptyState:
        layer_rates(nn.unbox(params), decay, depth)  # what has no depth is refused before anything is compiled
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None):
        def one(x: jax.Array, rate: np.ndarray) -> jax.Array:
            return x * jnp.expand_dims(jnp.asarray(rate, x.dtype), range(rate.ndim, x.ndim))

        return jax.tree.map(one, updates, layer_rates(updates, decay, depth)), state

    return optax.GradientTransformation(init, update)


def scale_by_path(pattern: str, factor: float) -> optax.GradientTransformation:
    """Updates times `factor`, of the parameters that have `pattern` in their paths; of others, or where none has, as they are."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None):
        def one(path: tuple, x: jax.Array) -> jax.Array:
            return x * factor if re.search(pattern, path_of(path)) else x

        return jax.tree_util.tree_map_with_path(one, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
