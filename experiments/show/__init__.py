"""What reports and `lacuna explain` draw, for people to look at: one module a modality.

Each has `guesses`, of reports, with their `CAPTION`, and `explained`, an example line by line.
"""

from collections.abc import Iterable
from types import ModuleType


def module_for(inputs: Iterable[str]) -> ModuleType:
    """The module that shows what a model reads, by the names of its inputs."""
    from experiments.show import pictures, texts

    return pictures if "pixel_values" in inputs else texts
