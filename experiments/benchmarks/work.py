"""What one benchmark of steps computes: a model and what it is asked.

Imported under the interpreter of any library that is measured, as `experiments.benchmarks.works`.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A model and what it is asked, for both sides the same.

    Attributes:
        architecture: class of both libraries.
        config: fields of the published `config.json` of both.
        objective: of ours, by name; the batches of the others are as it leaves them.
        batch: examples in a step.
    """

    architecture: str
    model_type: str
    config: dict[str, Any]
    objective: str
    batch: int

    @property
    def published(self) -> dict[str, Any]:
        """All fields of its `config.json`."""
        return self.config

    @property
    def items(self) -> tuple[int, str]:
        """How much a step reads, and of what."""
        return self.batch, "images"

    def tiny(self, **changes: Any) -> "Work":
        """The same model, small, with eight examples in a step."""
        return dataclasses.replace(self, batch=8, config={**self.config, **changes})

    def data(self) -> tuple[Any, Any]:
        """Our source and the form of its examples."""
        raise NotImplementedError

    def drawn(self, name: str, shape: tuple[int, ...], random) -> Any:
        """An array of our batch, `[batch, ...]`, drawn at random."""
        raise NotImplementedError

    def batch_of_theirs(self, numpy) -> dict[str, Any]:
        """What the model of the other library is called with."""
        raise NotImplementedError

    def made_ready(self, model):
        """The model of the other library, in train mode, with all that it is to train."""
        return model.requires_grad_(True)  # of a backbone on ResNet nothing is trained otherwise

    def batches_of_theirs(self, numpy) -> list[dict[str, Any]]:
        """The same for each batch of a step."""
        return [self.batch_of_theirs(numpy)]
