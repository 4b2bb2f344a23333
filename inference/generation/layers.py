"""Variables and caches cut into layers, for a loop that reads all of them once a step.

A stack of layers keeps each parameter as one array with a first axis `layers`. Inside of a loop XLA copies each slice of such an
array, so that every step would move the weights of the layers three times. Sliced before the loop they are read where they lie:
XLA drops the stacking together with the slices behind it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from models.layers.attention import Cache
from models.layers.axes import axes_of, is_stacked, path_of
from models.model import Model

BY_LAYER = ("keys", "values", "memory_keys", "memory_values")
"""Arrays of a cache whose first axis is the layers."""


def cut(model: Model, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, with a tuple of arrays, one a layer, for each that is stacked; what is cut already stays as it is."""
    axes = axes_of(model.boxed_shapes())

    def layers(path: tuple, x: Any) -> Any:
        return layers_of(x) if not isinstance(x, tuple) and is_stacked(axes.get(path_of(path), ())) else x

    return jax.tree_util.tree_map_with_path(layers, variables, is_leaf=is_cut)


def is_cut(x: Any) -> bool:
    return isinstance(x, tuple)


def layers_of(x: Array | np.ndarray) -> tuple[Array, ...]:
    """The slices of an array along its first axis. On one CPU they are views: nothing is copied."""
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
        first, *others = x.devices()
        if not others and first.platform == "cpu":
            return tuple(jax.device_put(part, first) for part in np.asarray(x))
    return slices(x)


@jax.jit
def slices(x: Array) -> tuple[Array, ...]:
    return tuple(x)


def joined(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables as the model takes them."""
    return jax.tree.map(lambda x: jnp.stack(x) if is_cut(x) else x, variables, is_leaf=is_cut)


def cut_cache(cache: Cache) -> Cache:
    """The cache, its keys and values by layer."""
    return cache.replace(**{name: tuple(x) for name in BY_LAYER if (x := vars(cache)[name]) is not None})


def joined_cache(cache: Cache) -> Cache:
    """The cache as the model takes it."""
    return cache.replace(**{name: jnp.stack(x) for name in BY_LAYER if (x := vars(cache)[name]) is not None})
