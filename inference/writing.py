"""What the tasks that write have in common: settings of generation, and a key for each text."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import tyro
from flax.core import FrozenDict
from jaxtyping import Array, Key

from inference.task import Task


@dataclasses.dataclass(frozen=True)
class Writing(Task):
    """Base of tasks that write text.

    Attributes:
        seed: of the tokens drawn with `do_sample`; each text draws others, by its place in the list.
        generation: fields of `GenerationConfig` to set otherwise than the folder does.
    """

    block: ClassVar[int] = 32

    seed: int = 0
    generation: Annotated[Mapping[str, Any], tyro.conf.Suppress] = FrozenDict()

    def changed(self, **settings: Any) -> "Writing":
        names = {field.name for field in dataclasses.fields(self)}
        generation = {name: value for name, value in settings.items() if name not in names}
        settings = {name: value for name, value in settings.items() if name in names}
        return dataclasses.replace(self, **settings, generation={**self.generation, **generation})


def keys_of(seed: int, first: int, count: int) -> Key[Array, " count"]:
    """A key for each of `count` texts, of which the first is number `first` of a list."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), first + jnp.arange(count))
