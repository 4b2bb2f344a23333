"""Where parameters stand: their paths, and which of them hold one array for each layer of a stack."""

import re
from typing import Any

STACKS = r"layers|stage_\d+(_rest)?"
"""What `models.layers.stack` calls its parameters, in every model."""


def names_of(path: tuple) -> list[str]:
    """The names on a path of `jax.tree_util`."""
    return [str(getattr(key, "key", key)) for key in path]


def stack_of(path: tuple) -> str | None:
    """The path of the stack that holds the parameter at `path`, its names joined by `/`; `None` where none does."""
    names = names_of(path)
    place = next((place for place, name in enumerate(names) if re.fullmatch(STACKS, name)), None)
    return None if place is None else "/".join(names[: place + 1])


def is_stack(path: tuple) -> bool:
    """Whether the parameter at `path` holds one array for each layer of a stack, on its first axis."""
    return stack_of(path) is not None


def own_axes(path: tuple, x: Any) -> tuple[int, ...]:
    """The axes of a parameter (of one layer of it, where it is stacked)."""
    return tuple(range(int(is_stack(path)), x.ndim))
