"""What models are asked for: one file a task."""

import contextlib
import importlib
import pkgutil
from types import ModuleType

import flax.linen as nn

from inference.task import Task
from models.config import ModelError, nearest


def in_module(module: ModuleType) -> list[type[Task]]:
    """The tasks that a file defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]


def known() -> dict[str, type[Task]]:
    """Those of this folder, by their names."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {task.name: task for module in modules for task in in_module(module)}


def that_fit(model: nn.Module) -> list[Task]:
    """Those with an example of which the model takes and gives what they want."""
    found = []
    for task in known().values():
        with contextlib.suppress(ModelError):
            task().suited_to(model).check(model)
            found += [task()] if task.example else []
    return found


def named(name: str) -> Task:
    """The task of a name; a translation may name its languages.

    Raises:
        ModelError: there is none, with the nearest of those there are.
    """
    tasks = known()
    for task in tasks.values():
        if (one := task.of_name(name)) is not None:
            return one
    raise ModelError(f"unknown task {name!r}: {nearest(name, list(tasks))}")
