"""What reports and `lacuna explain` draw, for people to look at: one module a modality.

Each has `guesses`, of reports, with their `CAPTION`, and `explained`, an example line by line.
"""

from collections.abc import Iterable
from types import ModuleType


def module_for(inputs: Iterable[str]) -> ModuleType:
    """The module that shows what a model reads, by the names of its inputs."""
    from experiments.show import pictures, sounds, texts

    modules = {"pixel_values": pictures, "input_values": sounds, "input_features": sounds}
    return next((module for name, module in modules.items() if name in inputs), texts)
