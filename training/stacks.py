"""Where parameters stand: their paths, and which of them hold one array for each layer of a stack."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

LAYERS = "layers"
"""The logical axis along which a stack's parameters hold one array for each layer (`models.layers.stack.stack`)."""

STACKS = r"layers|stage_\d+(_rest)?"
"""What stacks are called in the models here: for parameters whose logical axes are not known."""

Axes = Mapping[str, tuple[str | None, ...]]
"""The logical axes of parameters, by their paths, names joined by `/`."""


def axes_of(boxed: PyTree) -> Axes:
    """The logical axes of all parameters that carry some (`flax.linen.Partitioned`)."""
    leaves = jax.tree_util.tree_leaves_with_path(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    return {"/".join(names_of(path)): tuple(x.names) for path, x in leaves if isinstance(x, nn.Partitioned)}


def names_of(path: tuple) -> list[str]:
    """The names on a path of `jax.tree_util`, of a parameter with its logical axes as of one without."""
    return [str(getattr(key, "key", key)) for key in path if not isinstance(key, jax.tree_util.GetAttrKey)]


def is_stack(path: tuple, axes: Axes | None = None) -> bool:
    """Whether the parameter at `path` holds one array for each layer of a stack, on its first axis."""
    names = names_of(path)
    known = (axes or {}).get("/".join(names))
    if known is not None:
        return known[:1] == (LAYERS,)
    return any(re.fullmatch(STACKS, name) for name in names)


def stack_of(path: tuple, axes: Axes | None = None) -> str | None:
    """The path of the stack that holds the parameter at `path`, its names joined by `/`; `None` where none does.

    That is up to the name of a stack here; of one with another name, up to where all parameters below are stacked.
    """
    if not is_stack(path, axes):
        return None
    names = names_of(path)
    place = next((place for place, name in enumerate(names) if re.fullmatch(STACKS, name)), None)
    if place is not None:
        return "/".join(names[: place + 1])
    prefixes = ["/".join(names[:end]) for end in range(1, len(names))]
    return next((prefix for prefix in prefixes if _all_stacked(prefix, axes or {})), "/".join(names[:-1]))


def _all_stacked(prefix: str, axes: Axes) -> bool:
    return all(names[:1] == (LAYERS,) for path, names in axes.items() if path.startswith(f"{prefix}/"))


def own_axes(path: tuple, x: Any, axes: Axes | None = None) -> tuple[int, ...]:
    """The axes of a parameter (of one layer of it, where it is stacked)."""
    return tuple(range(int(is_stack(path, axes)), x.ndim))
