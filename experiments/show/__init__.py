"""Drawing of examples and predictions for reports and `lacuna explain`, a module for each modality.

Each has `guesses` for reports, with a `CAPTION`, and `explained`, which describes an example line by line.
"""

from collections.abc import Iterable
from types import ModuleType


def module_for(inputs: Iterable[str]) -> ModuleType:
    """The module of a model's modality, by the names of its inputs."""
    from experiments.show import pictures, sounds, texts

    modules = {"pixel_values": pictures, "input_values": sounds, "input_features": sounds}
    return next((module for name, module in modules.items() if name in inputs), texts)
