"""Learning rates that fall from layer to layer: the nearer to the input, the less fine-tuning moves a parameter.

Clark et al., "ELECTRA", 2020, arXiv 2003.10555, appendix B; for pictures Bao et al., "BEiT", 2021, arXiv 2106.08254.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from training.parallel import TrainingError
from training.stacks import Axes, is_stack, names_of, stack_of

LayerDepths = Callable[[str], int | tuple[int, ...]]
"""How far the parameter at a path, its names joined by `/`, is from the input: 0, 1, …; of a stacked one, each layer of it.
A model's method `layer_depths` of this kind knows better than `depths_of`."""

INPUTS = ("embed", "patch", "position", "token")
"""What a name on the path of a parameter contains that is used before the first layer."""


def layer_rates(
    params: PyTree, decay: float, layer_depths: LayerDepths | None = None, axes: Axes | None = None
) -> PyTree:
    """For each parameter `decay` to the power of its distance from the deepest; for a stacked one an array, by layers.

    Raises:
        TrainingError: there are several stacks of layers, and no `layer_depths` to say how they follow one another.
    """
    depth_of = layer_depths or depths_of(params, axes)
    depths = jax.tree_util.tree_map_with_path(lambda path, _: np.asarray(depth_of("/".join(names_of(path)))), params)
    deepest = max(depth.max() for depth in jax.tree.leaves(depths))
    return jax.tree.map(lambda depth: np.asarray(decay ** (deepest - depth), np.float32), depths)


def depths_of(params: PyTree, axes: Axes | None = None) -> LayerDepths:
    """The rule of a model with one stack of L layers: 0 before it, 1 to L in it, and L + 1 behind it.

    Raises:
        TrainingError: there are several stacks.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    counts = {stack_of(path, axes): len(x) for path, x in leaves if is_stack(path, axes)}
    if len(counts) > 1:
        raise TrainingError(
            f"layer_decay: this model has several stacks of layers ({', '.join(map(str, counts))}) and no method"
            " `layer_depths` to say how they follow one another: set layer_decay to 1, or give it one"
        )
    count = max(counts.values(), default=0)

    def depth_of(path: str) -> int | tuple[int, ...]:
        names = path.split("/")
        if is_stack(tuple(names), axes):
            return tuple(range(1, count + 1))
        return 0 if any(part in name for name in names for part in INPUTS) else count + 1

    return depth_of


def scale_by_layer(
    decay: float, layer_depths: LayerDepths | None = None, axes: Axes | None = None
) -> optax.GradientTransformation:
    """Updates times the rates of their layers."""

    def init(params: Any) -> optax.EmptyState:
        layer_rates(
            nn.unbox(params), decay, layer_depths, axes
        )  # what has no depth is told before anything is compiled
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None):
        def one(x: jax.Array, rate: np.ndarray) -> jax.Array:
            return x * jnp.expand_dims(jnp.asarray(rate, x.dtype), range(rate.ndim, x.ndim))

        return jax.tree.map(one, updates, layer_rates(updates, decay, layer_depths, axes)), state

    return optax.GradientTransformation(init, update)
