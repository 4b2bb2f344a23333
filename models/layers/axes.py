"""What a parameter is, read off its logical axes (`flax.linen.Partitioned`) and never off its name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

LAYERS = "layers"
"""The axis along which a parameter holds one array for each layer of a stack (`models.layers.stack.stack`)."""
TABLES = ("vocab", "position", "token_type")
"""First axes of tables of embeddings, whose rows are looked up."""
SPACE = ("height", "width")
"""First axes of the kernels of convolutions."""
SCORES = "head"
"""The last axis of a table that holds no features, but what each head of attention adds to its scores."""
UNKNOWN = "unknown"
"""Each axis of a parameter that carries no logical axes; it counts as a kernel where it has several."""

Axes = Mapping[str, tuple[str | None, ...]]
"""The logical axes of parameters, by their paths, names joined by `/`."""
NONE: Axes = MappingProxyType({})


def path_of(path: tuple) -> str:
    """A path of `jax.tree_util`, its names joined by `/`; of a parameter with its logical axes as of one without."""
    return jax.tree_util.keystr(
        [key for key in path if not isinstance(key, jax.tree_util.GetAttrKey)], simple=True, separator="/"
    )


def axes_of(boxed: PyTree) -> Axes:
    """The logical axes of all parameters that carry some."""
    leaves = jax.tree_util.tree_leaves_with_path(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    return {path_of(path): tuple(x.names) for path, x in leaves if isinstance(x, nn.Partitioned)}


def named_axes(path: tuple, x: Any, axes: Axes) -> tuple[str | None, ...]:
    """The logical axes of the parameter `x` at `path`."""
    return axes.get(path_of(path), (UNKNOWN,) * x.ndim)


def is_stacked(names: tuple[str | None, ...]) -> bool:
    """Whether a parameter holds one array for each layer of a stack, on its first axis."""
    return names[:1] == (LAYERS,)


def one_layer(names: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The axes of one layer of a parameter that is stacked, or of the whole."""
    return names[1:] if is_stacked(names) else names


def own_axes(names: tuple[str | None, ...]) -> tuple[int, ...]:
    """The numbers of these axes."""
    return tuple(range(int(is_stacked(names)), len(names)))


def is_kernel(names: tuple[str | None, ...]) -> bool:
    """Whether a parameter multiplies features: the matrix of a linear layer, or a convolution. A class token, the positions of
    pictures and biases of several axes have no name for the first."""
    names = one_layer(names)
    return len(names) > 1 and names[0] not in (None, *TABLES) and names[-1] != SCORES


def is_table(names: tuple[str | None, ...]) -> bool:
    """Whether a parameter is a table of embeddings."""
    names = one_layer(names)
    return len(names) > 1 and names[0] in TABLES


def unit_axes(names: tuple[str | None, ...]) -> tuple[int, ...]:
    """The axes that one unit of a parameter runs along: of a kernel all inputs of an output, of what is no kernel a row, of a
    vector the whole."""
    own = own_axes(names)
    if not is_kernel(names):
        return own[1:] or own
    return own[:-1] if one_layer(names)[0] in SPACE else own[:1]  # (height, width, in, out), or (in, *out)


def stack_of(path: str, axes: Axes) -> str:
    """The path of the stack that holds a stacked parameter: the shortest below which all are stacked."""
    names = path.split("/")
    prefixes = ["/".join(names[:end]) for end in range(1, len(names))]
    return next(prefix for prefix in prefixes if _all_stacked(prefix, axes))


def _all_stacked(prefix: str, axes: Axes) -> bool:
    return all(is_stacked(names) for path, names in axes.items() if path.startswith(f"{prefix}/"))
